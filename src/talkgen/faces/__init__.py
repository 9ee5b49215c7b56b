"""Faces in pictures: detection, landmarks, tracking, alignment, crops and paste-back (uint8 RGB)."""
