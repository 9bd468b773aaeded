"Benchmarks: the project's own ways beside those one could pick instead, in one process and one run."
