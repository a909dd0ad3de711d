"""Every network is an implicit model: conversion, connection, and training inside a structure."""
