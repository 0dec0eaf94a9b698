// SPDX-License-Identifier: GPL-2.0
/*
 * Text to numbers and back
 */
#include <ctype.h>
#include <stdio.h>
#include <string.h>

#include "parse.h"

/* The kernel keeps 12 bits of a major and 20 bits of a minor number. */
#define DEV_MAJOR_MAX 0xfff
#define DEV_MINOR_MAX 0xfffff

/* Digits up to @end, of which there must be at least one. */
static bool parse_digits(const char *text, const char *end, uint64_t max,
			 uint64_t *value)
{
	uint64_t result = 0;

	if (text == end)
		return false;
	for (; text != end; text++) {
		if (!isdigit((unsigned char)*text))
			return false;
		if (__builtin_mul_overflow(result, 10, &result) ||
		    __builtin_add_overflow(result, *text - '0', &result))
			return false;
	}
	if (result > max)
		return false;
	*value = result;
	return true;
}

/**
 * parse_u64() - parse a decimal number
 * @text:	the text
 * @max:	greatest value allowed
 * @value:	the number
 *
 * Return: true if @text is valid.
 */
bool parse_u64(const char *text, uint64_t max, uint64_t *value)
{
	return parse_digits(text, text + strlen(text), max, value);
}

/**
 * parse_size() - parse a size like 4096, 64K, 2G
 * @text:	number of bytes, or a number followed by K, M, G or T, which are
 *		powers of 1024
 * @size_bytes:	the size, small enough for a file offset
 *
 * Return: true if @text is valid.
 */
bool parse_size(const char *text, uint64_t *size_bytes)
{
	static const char suffixes[] = "KMGT";
	const char *end = text + strlen(text);
	const char *suffix = NULL;
	unsigned int shift = 0;

	if (end != text)
		suffix = strchr(suffixes, toupper((unsigned char)end[-1]));
	if (suffix) {
		shift = 10 * (suffix - suffixes + 1);
		end--;
	}
	if (!parse_digits(text, end, (uint64_t)INT64_MAX >> shift, size_bytes))
		return false;
	*size_bytes <<= shift;
	return true;
}

/**
 * parse_range() - parse a range like 2048:16
 * @text:	first sector and number of sectors, neither empty nor beyond
 *		what a device can have
 * @range:	the range
 *
 * Return: true if @text is valid.
 */
bool parse_range(const char *text, struct blk_snap_block_range *range)
{
	const uint64_t nr_sectors_max = (uint64_t)INT64_MAX >> 9;
	const char *colon = strchr(text, ':');
	uint64_t start, count;

	if (!colon)
		return false;
	if (!parse_digits(text, colon, nr_sectors_max, &start) ||
	    !parse_u64(colon + 1, nr_sectors_max, &count))
		return false;
	if (!count || start + count > nr_sectors_max)
		return false;
	range->sector_offset = start;
	range->sector_count = count;
	return true;
}

/**
 * parse_dev() - parse a device number like 8:1
 * @text:	major and minor number
 * @dev:	the device number
 *
 * Return: true if @text is valid.
 */
bool parse_dev(const char *text, struct blk_snap_dev *dev)
{
	const char *colon = strchr(text, ':');
	uint64_t mj, mn;

	if (!colon)
		return false;
	if (!parse_digits(text, colon, DEV_MAJOR_MAX, &mj) ||
	    !parse_u64(colon + 1, DEV_MINOR_MAX, &mn))
		return false;
	dev->mj = mj;
	dev->mn = mn;
	return true;
}

static int hex_digit(char c)
{
	if (isdigit((unsigned char)c))
		return c - '0';
	return tolower((unsigned char)c) - 'a' + 10;
}

/**
 * parse_uuid() - parse an identifier
 * @text:	32 hexadecimal digits in groups of 8, 4, 4, 4 and 12 with dashes
 *		in between
 * @uuid:	the identifier
 *
 * Return: true if @text is valid.
 */
bool parse_uuid(const char *text, struct blk_snap_uuid *uuid)
{
	static const char form[] = "xxxxxxxx-xxxx-xxxx-xxxx-xxxxxxxxxxxx";
	struct blk_snap_uuid result = { 0 };
	unsigned int nr_digits = 0;
	size_t i;

	if (strlen(text) != sizeof(form) - 1)
		return false;
	for (i = 0; form[i]; i++) {
		if (form[i] == '-') {
			if (text[i] != '-')
				return false;
			continue;
		}
		if (!isxdigit((unsigned char)text[i]))
			return false;
		result.b[nr_digits / 2] <<= 4;
		result.b[nr_digits / 2] |= hex_digit(text[i]);
		nr_digits++;
	}
	*uuid = result;
	return true;
}

/**
 * format_size() - write a size for human readers
 * @size_bytes:	the size in bytes
 * @text:	a number with at most one decimal and a suffix as parse_size()
 *		takes it; without a suffix below 1024 bytes
 */
void format_size(uint64_t size_bytes, char text[SIZE_TEXT_SIZE])
{
	static const char suffixes[] = "KMGTPE";
	uint64_t tenths;
	int shift = 0;

	while (shift < 60 && size_bytes >> (shift + 10))
		shift += 10;
	if (!shift) {
		snprintf(text, SIZE_TEXT_SIZE, "%ju", (uintmax_t)size_bytes);
		return;
	}
	/* One decimal, rounded down: a size is never shown as more than it is. */
	tenths = ((size_bytes >> (shift - 10)) & 1023) * 10 >> 10;
	if (tenths)
		snprintf(text, SIZE_TEXT_SIZE, "%ju.%ju%c",
			 (uintmax_t)(size_bytes >> shift), (uintmax_t)tenths,
			 suffixes[shift / 10 - 1]);
	else
		snprintf(text, SIZE_TEXT_SIZE, "%ju%c",
			 (uintmax_t)(size_bytes >> shift),
			 suffixes[shift / 10 - 1]);
}
