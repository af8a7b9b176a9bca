"""All that strangers, files and origins can say, said to what reads it: `make fuzz`, and a little with the tests."""
