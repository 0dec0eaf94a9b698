/* SPDX-License-Identifier: GPL-2.0 */
/*
 * Chains of qcow2 files, by qemu-img
 *
 * The first file of a chain holds a whole disk.  Each of the others holds what
 * changed since the one before, which is its backing file.
 */
#ifndef CHAIN_H
#define CHAIN_H

#include <stdbool.h>
#include <stdint.h>

#include "key.h"

struct chain_file {
	const char *path;
	const char *backing;	/* name in the same folder, NULL if none */
	uint64_t nr_bytes;	/* size of the disk */
	uint32_t block_bytes;	/* what is written has this granularity */
	bool compress;
	const struct key *key;	/* to encrypt with; NULL if it is not to be */
};

/* What the header of a file says. */
struct chain_header {
	char *backing;		/* NULL if none; freed by the caller */
	bool compress;		/* it was made with this */
};

uint32_t chain_cluster_bytes(const struct chain_file *file);
uint32_t chain_write_bytes(const struct chain_file *file);
uint32_t chain_range_bytes(const struct chain_file *file);
int chain_create(const struct chain_file *file);
int chain_finish(const struct chain_file *file);
int chain_check(const char *path, const struct key *key, bool *damaged);
int chain_read_header(const char *path, struct chain_header *header);

#endif /* CHAIN_H */
