"""Tests of autoinit."""
