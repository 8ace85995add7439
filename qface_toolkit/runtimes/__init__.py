"""What is known of runtimes and of files in them: which operators run, what layers cost, how long a call takes."""
