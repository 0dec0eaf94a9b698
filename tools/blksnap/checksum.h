/* SPDX-License-Identifier: GPL-2.0 */
/*
 * Checksums: SHA-256 by libcrypto
 *
 * The kernel offers it too, but only where its crypto sockets are configured,
 * and without the instructions that processors have for it being any faster.
 * A failure inside libcrypto is remembered and told by checksum_end().
 */
#ifndef CHECKSUM_H
#define CHECKSUM_H

#include <stdbool.h>
#include <stddef.h>

#define CHECKSUM_SIZE 32
#define CHECKSUM_TEXT_SIZE (2 * CHECKSUM_SIZE + 1)

struct checksum {
	void *context;
	bool failed;
};

void checksum_begin(struct checksum *sum);
void checksum_add(struct checksum *sum, const void *data, size_t nr_bytes);
bool checksum_end(struct checksum *sum, char text[CHECKSUM_TEXT_SIZE]);
void checksum_free(struct checksum *sum);

#endif /* CHECKSUM_H */
