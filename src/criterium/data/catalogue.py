"""The names of the sources, kept apart so that listing them imports nothing."""

from __future__ import annotations

SOURCES = {
    "digits": "1,797 handwritten digits of 8x8 pixels that ship with scikit-learn, 10 classes",
    "fashion-mnist": "70,000 grey 28x28 images of clothes, 10 classes (IDX files)",
    "mnist": "70,000 grey 28x28 images of handwritten digits, 10 classes (IDX files or mnist.npz)",
    "cifar10": "60,000 colour 32x32 images, 10 classes (binary version or cifar10.npz)",
    "cifar100": "60,000 colour 32x32 images, 100 fine classes (binary version or cifar100.npz)",
    "npz:FILE": "NumPy arrays x_train, y_train, x_test, y_test (optional x_val, y_val, ood_x, classes)",
    "parquet:FILE": "a Parquet table of numbers and categories, with a label column",
    "csv:FILE": "a CSV table of numbers and categories, with a label column",
    "folder:DIR": "image files, one sub-folder a class (or train/, test/ and val/ that hold such folders)",
}
"""What ``data=`` takes, with a line about each."""
