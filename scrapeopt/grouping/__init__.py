"The rules that make, check, split and merge groups; they compute and do no I/O."
