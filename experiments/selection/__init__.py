"""Selection of inputs beside other methods: when it succeeds, what it finds, what it is worth."""
