"""The files that a policy imports and extends: found on disk, and pinned by digest in a lock.

Input: a policy's file and the folders to look in; output: sources (`Files`), or a
lock (`Lock`). What the files mean is `aqpolicy.model`'s question.
"""

from aqpolicy.library.files import Files, read_source
from aqpolicy.library.lock import LOCK_NAME, Lock, encode_lock, find_lock, load_lock

__all__ = ["LOCK_NAME", "Files", "Lock", "encode_lock", "find_lock", "load_lock", "read_source"]
