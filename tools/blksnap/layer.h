/* SPDX-License-Identifier: GPL-2.0 */
/*
 * Writing and reading the layers of a backup
 */
#ifndef LAYER_H
#define LAYER_H

#include "layer_map.h"
#include "progress.h"
#include "qcow.h"

struct layer_merge;

/* Where the data of a new layer comes from. */
struct layer_source {
	int (*read)(const struct layer_source *source, void *data,
		    size_t nr_bytes, uint64_t offset);
	/* May be NULL.  Begins to read what is wanted soon. */
	void (*prefetch)(const struct layer_source *source, uint64_t nr_bytes,
			 uint64_t offset);
	/* May be NULL.  Says what is zero without being read. */
	bool (*is_zero)(const struct layer_source *source, size_t nr_bytes,
			uint64_t offset);
	const char *name;
	struct layer_merge *merge;
	int fd;
};

/* Where the data of a layer goes; @data is NULL for zeros. */
struct layer_sink {
	int (*write)(struct layer_sink *sink, const void *data,
		     uint64_t nr_bytes, uint64_t offset);
	const char *path;
	struct qcow *qcow;
	int fd;
	bool is_zero;		/* zeros need not be written */
	bool is_device;
};

struct layer_copy {
	struct qcow *to;
	int to_fd;			/* the file of that */
	const struct key *key;		/* of the new layer, NULL if it has none */
	struct layer_map *map;		/* likewise, empty at first */
	const struct extents *extents;	/* what to copy */
	uint32_t zero_bytes;		/* zeros are looked for in pieces of it */
	/* Writes are multiples of it; the file may reach behind the disk. */
	uint32_t write_bytes;
	bool keep_zeros;		/* there are layers below */
	struct progress *progress;
};

int layer_read_fd(const struct layer_source *source, void *data,
		  size_t nr_bytes, uint64_t offset);
void layer_prefetch_fd(const struct layer_source *source, uint64_t nr_bytes,
		       uint64_t offset);

int layer_write(const struct layer_copy *copy,
		const struct layer_source *source);
int layer_read(const struct layer_map *map, const char *path,
	       const struct key *key, struct layer_sink *sink,
	       struct progress *progress, bool *damaged);

#endif /* LAYER_H */
