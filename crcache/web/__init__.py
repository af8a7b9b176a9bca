"""HTTP as clients see it: a request becomes an ask, an outcome becomes an answer."""
