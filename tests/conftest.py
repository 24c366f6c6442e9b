"""What all tests share: the arithmetic, pinned before anything imports torch."""

from core import numerics

numerics.pin("portable", None)
