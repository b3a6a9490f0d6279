"""Encoders: backbones of timm at any image size, and their pretrained weights."""
