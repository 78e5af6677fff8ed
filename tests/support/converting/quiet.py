"""A conversion display that says nothing."""


class Quiet:
    """Progress that nobody sees."""

    def start(self, nbytes):
        self.left = nbytes

    def advance(self, nbytes):
        self.left -= nbytes

    def shard(self, name, number, count):
        pass
