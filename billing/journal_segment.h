/*
 * Segment files of a journal folder: `journal-<shard>-<seq>.tgj`, a head of 64 bytes, then
 * records. seq only grows within a shard, also when older files have gone: it is at least the
 * wall time in ms. The head, little-endian:
 *
 *     0  char[8] "TGJRNL\r\n"    8  uint32 version, 1     12 uint32 shard
 *    16  int64 seq              24  int64 created_wall_ms 32 uuid of its gateway
 *    48  zeros                  60  uint32 CRC-32C of bytes 0..59
 *
 * Any thread; a reader has one owner.
 */
#ifndef BILLING_JOURNAL_SEGMENT_H
#define BILLING_JOURNAL_SEGMENT_H

#include "billing/journal_record.h"

enum { SEGMENT_HEAD_BYTES = 64, SEGMENT_PATH_MAX = 1024 };

struct segment_name {
    int shard;
    int64_t seq;
};

struct segment_list {
    struct segment_name *items; /* by shard, then seq */
    size_t count;
};

/* The segments in dir; NOT_FOUND when there is no such folder. */
enum status segment_list(const char *dir, struct segment_list *out, struct error *err);
void segment_list_done(struct segment_list *list);
enum status segment_path(const char *dir, struct segment_name name, char out[SEGMENT_PATH_MAX],
                         struct error *err);

/* Makes the folder with its parents (mode 0700) and reads, or makes, its identity. */
enum status segment_folder(const char *dir, struct uuid *source, struct error *err);
enum status segment_sync_folder(const char *dir, struct error *err);
struct segment_new {
    const char *dir;
    struct segment_name name;
    struct uuid source;
    int64_t reserve_bytes; /* disk set aside beyond the head */
};
/* A new segment with its head written, not yet durable. IO_FAILED: the file is gone again. */
enum status segment_create(const struct segment_new *segment, int *fd, struct error *err);

enum segment_verdict {
    SEGMENT_RECORD,
    SEGMENT_END,     /* all is read (an empty file too); the newest one may grow */
    SEGMENT_TORN,    /* the file ends inside a record, or the head */
    SEGMENT_CORRUPT, /* err names file and offset */
    SEGMENT_FAILED,  /* reading failed, err says why */
};

struct segment_reader;

/* NOT_FOUND: no such file (any more). */
enum status segment_open(const char *dir, struct segment_name name, struct segment_reader **out,
                         struct error *err);
void segment_close(struct segment_reader *r); /* NULL is fine */
/* Reads the head, so that segment_source is known: RECORD; else as segment_next. */
enum segment_verdict segment_begin(struct segment_reader *r, struct error *err);
/* Where the next record starts; 0: the head was not read yet. */
int64_t segment_offset(const struct segment_reader *r);
void segment_seek(struct segment_reader *r, int64_t offset); /* to what segment_offset gave */
/* The view is valid until the next call. Verdicts other than RECORD leave the offset as it is;
 * a later call looks again. */
enum segment_verdict segment_next(struct segment_reader *r, struct record_view *out,
                                  struct error *err);
const struct uuid *segment_source(const struct segment_reader *r); /* after the head was read */
const char *segment_file(const struct segment_reader *r);          /* path, for messages */

/* Cuts a torn tail off the newest segment of a shard and makes what is left durable. Only while
 * nobody writes to it. CORRUPT as above. */
enum status segment_repair(const char *dir, struct segment_name name, struct error *err);

#endif
