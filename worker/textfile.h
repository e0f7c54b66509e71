/* A whole file into memory. Any thread. */
#ifndef WORKER_TEXTFILE_H
#define WORKER_TEXTFILE_H

#include "base/buf.h"
#include "base/error.h"

/* Appends the file to out; its cap is the largest file accepted. The error names the file. */
enum status textfile_read(const char *path, struct buf *out, struct error *err);

#endif
