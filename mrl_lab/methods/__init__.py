"""The methods: one paper, one file. A method gives a loss over some cuts; none imports another."""
