#!/bin/sh
# Verify a compressed model, evaluate it, and compare it with its baseline, in any CI system: exit code 1 if its files are
# not what was made or compute something else here, or if it got larger, slower or less true.
#
#     sh check.sh [REPORT [BASELINE [OPTION...]]]
#
# What is not given as an argument is taken from the environment: QFACE_REPORT and QFACE_BASELINE, and if they are set:
#     QFACE_VERIFY    true or false: run the golden vectors of the result; true
#     QFACE_EVALUATE  true or false: judge the result, which writes evaluation.json into it; true
#     QFACE_FACES     a folder of people, or QFACE_PAIRS, a .bin set, to judge it on; drawn people without either
#     QFACE_BUDGETS   a file;  QFACE_JUNIT  a file to write
#     QFACE_STRICT    true or false: fail on whatever was not compared; false
#     QFACE_MEASURE   true or false: measure the latency on this machine; false
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

verify=no evaluate=no
if wanted QFACE_VERIFY "${QFACE_VERIFY:-true}"; then verify=yes; fi
if wanted QFACE_EVALUATE "${QFACE_EVALUATE:-true}"; then evaluate=yes; fi
if wanted QFACE_STRICT "${QFACE_STRICT:-}"; then set -- "$@" --strict; fi
if wanted QFACE_MEASURE "${QFACE_MEASURE:-}"; then set -- "$@" --measure; fi
if [ -n "${QFACE_BUDGETS:-}" ]; then set -- "$@" --budgets "$QFACE_BUDGETS"; fi
if [ -n "${QFACE_JUNIT:-}" ]; then set -- "$@" --junit "$QFACE_JUNIT"; fi

# A step that fails does not keep the next ones from telling what they know; the job fails all the same.
status=0
if [ -d "$report" ]; then
    # The two dashes, here and below: a path may begin with one.
    if [ $verify = yes ]; then qface verify -- "$report" || status=$?; fi
    if [ $evaluate = yes ]; then
        if [ -n "${QFACE_FACES:-}" ]; then
            qface evaluate --faces="$QFACE_FACES" --out="$report" --force -- "$report" || status=$?
        elif [ -n "${QFACE_PAIRS:-}" ]; then
            qface evaluate --pairs="$QFACE_PAIRS" --out="$report" --force -- "$report" || status=$?
        else
            qface evaluate --synthetic --out="$report" --force -- "$report" || status=$?
        fi
    fi
elif [ "$verify$evaluate" != nono ]; then
    echo "note: $report is no result's folder, so no file of it is verified or evaluated" >&2
fi

qface check "$@" --baseline="$baseline" -- "$report" || status=$?
exit $status
