// SPDX-License-Identifier: GPL-2.0
/*
 * Identifiers as text
 */
#include <stdio.h>

#include <blksnap/blksnap.h>

/**
 * blksnap_format_uuid() - write an identifier as text
 * @uuid:	the identifier of a snapshot or a generation
 * @text:	32 digits with dashes in between, in lower case
 */
void blksnap_format_uuid(const struct blk_snap_uuid *uuid,
			 char text[BLKSNAP_UUID_TEXT_SIZE])
{
	size_t i;

	for (i = 0; i < sizeof(uuid->b); i++) {
		if (i == 4 || i == 6 || i == 8 || i == 10)
			*text++ = '-';
		text += sprintf(text, "%02x", uuid->b[i]);
	}
}
