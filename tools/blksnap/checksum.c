// SPDX-License-Identifier: GPL-2.0
/*
 * Checksums: SHA-256 by libcrypto
 */
#include <stdio.h>

#include <openssl/evp.h>

#include "checksum.h"

/**
 * checksum_begin() - begin a new sum
 * @sum:	zeroed at first; may be begun again after its end
 */
void checksum_begin(struct checksum *sum)
{
	if (!sum->context)
		sum->context = EVP_MD_CTX_new();
	sum->failed = !sum->context ||
		      !EVP_DigestInit_ex(sum->context, EVP_sha256(), NULL);
}

/**
 * checksum_add() - add data
 * @sum:	the sum
 * @data:	the data
 * @nr_bytes:	its size
 */
void checksum_add(struct checksum *sum, const void *data, size_t nr_bytes)
{
	if (!sum->failed && !EVP_DigestUpdate(sum->context, data, nr_bytes))
		sum->failed = true;
}

/**
 * checksum_end() - finish a sum
 * @sum:	the sum
 * @text:	gets it, in hexadecimal digits
 *
 * Return: false without memory.
 */
bool checksum_end(struct checksum *sum, char text[CHECKSUM_TEXT_SIZE])
{
	unsigned char digest[EVP_MAX_MD_SIZE];
	size_t i;

	if (sum->failed || !EVP_DigestFinal_ex(sum->context, digest, NULL))
		return false;
	for (i = 0; i < CHECKSUM_SIZE; i++)
		sprintf(text + 2 * i, "%02x", digest[i]);
	return true;
}

/**
 * checksum_free() - forget a sum
 * @sum:	the sum
 */
void checksum_free(struct checksum *sum)
{
	EVP_MD_CTX_free(sum->context);
	sum->context = NULL;
}
