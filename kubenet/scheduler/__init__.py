"""The scheduler's decisions: a pod without a node and all nodes in, a node out. *Pure.*

``views`` says what a pod and a node are to the scheduler, ``filters`` which nodes fit, ``scores`` which of
these is best, ``select`` puts the two together. ``cluster`` and ``queue`` keep what is known and what is
waiting, ``answers`` says what is written. The loop around it is ``kubenet.manager.scheduling``.
"""
