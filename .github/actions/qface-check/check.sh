#!/bin/sh
# Compare a compressed model with its baseline in any CI system; exit code 1 if it got larger, slower or less true.
#
#     sh check.sh [REPORT [BASELINE [OPTION...]]]
#
# What is not given as an argument is taken from the environment: QFACE_REPORT and QFACE_BASELINE, and if they are set,
# QFACE_BUDGETS (a file), QFACE_STRICT and QFACE_MEASURE (true or false), QFACE_JUNIT (a file to write).
set -eu

report=${1:-${QFACE_REPORT:-}}
baseline=${2:-${QFACE_BASELINE:-}}
if [ -z "$report" ] || [ -z "$baseline" ]; then
    echo "usage: sh check.sh REPORT BASELINE [OPTION...]   (or set QFACE_REPORT and QFACE_BASELINE)" >&2
    exit 2
fi
if [ $# -gt 2 ]; then shift 2; else set --; fi

wanted() { # NAME VALUE: whether an option is wanted; anything but a clear yes or no is a mistake
    case $2 in
        true | 1 | yes) return 0 ;;
        false | 0 | no | "") return 1 ;;
        *)
            echo "$1 is '$2'; write true or false" >&2
            exit 2
            ;;
    esac
}

if wanted QFACE_STRICT "${QFACE_STRICT:-}"; then set -- "$@" --strict; fi
if wanted QFACE_MEASURE "${QFACE_MEASURE:-}"; then set -- "$@" --measure; fi
if [ -n "${QFACE_BUDGETS:-}" ]; then set -- "$@" --budgets "$QFACE_BUDGETS"; fi
if [ -n "${QFACE_JUNIT:-}" ]; then set -- "$@" --junit "$QFACE_JUNIT"; fi

# The two dashes: a path may begin with one.
exec qface check "$@" --baseline="$baseline" -- "$report"
