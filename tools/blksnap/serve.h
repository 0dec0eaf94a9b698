/* SPDX-License-Identifier: GPL-2.0 */
/*
 * Images served over NBD
 *
 * The server is a child of ours, so it ends when we do.  Clients can read only.
 *
 * What changed is a dirty bitmap of an export, which is what QEMU's backups have
 * and what their clients ask for.  The other way, for clients that cannot use a
 * bitmap, is to say that nothing else is allocated.
 */
#ifndef SERVE_H
#define SERVE_H

#include <stdbool.h>
#include <stddef.h>

#include "address.h"
#include "child.h"
#include "extents.h"
#include "image.h"

#define SERVE_NAME_SIZE 64
#define SERVE_ARGV_SIZE 20

struct serve_export {
	const char *text;	/* the argument that named the image */
	struct image image;
	int fd;			/* keeps the number of the image; -1 if not open */
	char name[SERVE_NAME_SIZE];
	bool has_since;
	uint64_t since;		/* number of a snapshot */
	struct blk_snap_uuid generation;	/* of that */
	bool has_generation;
	struct blk_snap_cbt_info info;
	struct extents extents;	/* what changed, empty without has_since */
};

struct serve {
	struct serve_export *exports;
	size_t nr_exports;
	const char *bitmap;	/* its name */
	struct address address;
	struct child child;	/* the server */
	const char *argv[SERVE_ARGV_SIZE];	/* of some servers; [0] is kept */
};

int serve_images(struct serve *serve);
int serve_changes_only(struct serve *serve);

#endif /* SERVE_H */
