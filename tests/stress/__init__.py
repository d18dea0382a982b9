"""Long checks that are run by hand; short forms of them are tests."""
