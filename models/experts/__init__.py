"""Experts: the rules by which tokens and experts find each other, for a mixture of many and for one big FFN over a small one."""
