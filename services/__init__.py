"""The services: each room has the same plan, and none imports another.

Whatever process imports from here looks for garbage less often than Python would by itself.
"""

import atexit
import gc

# Python looks for cycles after 700 new objects. What a service imports is half a million of them, and one answer of a
# thousand rows has a hundred times as many, without a cycle: to look through them again and again was a quarter of a
# start, and a third of what such an answer cost.
gc.set_threshold(20_000)
# Nor are they looked through when the process ends, which was another quarter of a second or more.
atexit.register(gc.freeze)
