"""A folder that a compression makes: the job, the names of its files, its manifest, and opening what is in it."""
