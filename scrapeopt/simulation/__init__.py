"Worlds to try a policy on, and the policies to measure others by."
