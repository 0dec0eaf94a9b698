// SPDX-License-Identifier: GPL-2.0
/*
 * Arguments of options that several commands have
 */
#include <blksnap/blksnap.h>

#include "message.h"
#include "option.h"
#include "parse.h"

/**
 * option_text() - take any argument
 * @name:	of the option
 * @text:	the argument
 * @to:		const char *
 *
 * Return: EXIT_OK.
 */
int option_text(const char *name, const char *text, void *to)
{
	(void)name;
	*(const char **)to = text;
	return EXIT_OK;
}

/**
 * option_count() - take a number that is not 0
 * @name:	of the option
 * @text:	the argument
 * @to:		uint64_t
 *
 * Return: EXIT_OK, or EXIT_USAGE after a message.
 */
int option_count(const char *name, const char *text, void *to)
{
	uint64_t *number = to;

	if (!parse_u64(text, UINT32_MAX, number) || !*number)
		return fail(EXIT_USAGE,
			    "--%s '%s': must be a number from 1 on", name,
			    text);
	return EXIT_OK;
}

/**
 * option_point() - take the number of a point
 * @name:	of the option
 * @text:	the argument
 * @to:		uint64_t
 *
 * Return: EXIT_OK, or EXIT_USAGE after a message.
 */
int option_point(const char *name, const char *text, void *to)
{
	uint64_t *number = to;

	if (!parse_u64(text, UINT32_MAX, number) || !*number)
		return fail(EXIT_USAGE,
			    "--%s '%s': must be the number of a point as 'blksnap list' prints it",
			    name, text);
	return EXIT_OK;
}

/**
 * option_rate() - take a number of bytes per second
 * @name:	of the option
 * @text:	the argument
 * @to:		uint64_t
 *
 * Return: EXIT_OK, or EXIT_USAGE after a message.
 */
int option_rate(const char *name, const char *text, void *to)
{
	uint64_t *nr_bytes = to;

	if (!parse_size(text, nr_bytes) || !*nr_bytes)
		return fail(EXIT_USAGE,
			    "--%s '%s': must be a number of bytes per second, or have a suffix K, M, G or T",
			    name, text);
	return EXIT_OK;
}

/**
 * option_file_size() - take a place in a file, or the size of one
 * @name:	of the option
 * @text:	the argument
 * @to:		uint64_t; a multiple of BLKSNAP_STORAGE_ALIGN_BYTES
 *
 * Return: EXIT_OK, or EXIT_USAGE after a message.
 */
int option_file_size(const char *name, const char *text, void *to)
{
	uint64_t *nr_bytes = to;

	if (!parse_size(text, nr_bytes) || *nr_bytes % BLKSNAP_STORAGE_ALIGN_BYTES)
		return fail(EXIT_USAGE,
			    "--%s '%s': must be a number of bytes or have a suffix K, M, G or T, and be a multiple of %uK",
			    name, text, BLKSNAP_STORAGE_ALIGN_BYTES / 1024);
	return EXIT_OK;
}
