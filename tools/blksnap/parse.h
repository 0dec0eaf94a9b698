/* SPDX-License-Identifier: GPL-2.0 */
/*
 * Text to numbers and back
 *
 * The parsers take the whole string or nothing: no sign, no blank, no trailing
 * character, no value that does not fit.  They leave the result alone and
 * return false if the text is not valid.
 */
#ifndef PARSE_H
#define PARSE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <linux/blksnap.h>

#define SIZE_TEXT_SIZE 32 /* longest: 20 digits and a suffix */

bool parse_u64(const char *text, uint64_t max, uint64_t *value);
bool parse_size(const char *text, uint64_t *size_bytes);
bool parse_range(const char *text, struct blk_snap_block_range *range);
bool parse_dev(const char *text, struct blk_snap_dev *dev);
bool parse_uuid(const char *text, struct blk_snap_uuid *uuid);

void format_size(uint64_t size_bytes, char text[SIZE_TEXT_SIZE]);

#endif /* PARSE_H */
