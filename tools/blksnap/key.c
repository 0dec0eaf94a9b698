// SPDX-License-Identifier: GPL-2.0
/*
 * The key of encrypted layers
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <openssl/evp.h>

#include "key.h"
#include "message.h"

#define KEY_MAX_BYTES 4096

/*
 * A key may be a passphrase, and to guess it by a checksum must not be easier
 * than by the header of a layer.  This many take 0.2 s, once in a run.
 */
#define SEED_ITERATIONS 600000
#define SEED_SALT "blksnap checksum"

/* How many bytes follow the first one of a character in UTF-8; -1 if none can. */
static int nr_following(unsigned char first)
{
	if (first < 0x80)
		return first ? 0 : -1;
	if (first >= 0xc2 && first < 0xe0)
		return 1;
	if (first >= 0xe0 && first < 0xf0)
		return 2;
	return first >= 0xf0 && first < 0xf5 ? 3 : -1;
}

static bool is_text(const unsigned char *data, size_t nr_bytes)
{
	size_t i;
	int nr = 0;

	for (i = 0; i < nr_bytes; i++) {
		if (!nr)
			nr = nr_following(data[i]);
		else if ((data[i] & 0xc0) == 0x80)
			nr--;
		else
			return false;
		if (nr < 0)
			return false;
	}
	return !nr;
}

static int read_key(const char *name, const char *path, unsigned char *data,
		    size_t *nr_bytes)
{
	/* A pipe is not waited for. */
	int fd = open(path, O_RDONLY | O_NONBLOCK | O_NOCTTY | O_CLOEXEC);
	ssize_t nr = 0;
	struct stat st;

	if (fd < 0)
		return fail_errno(errno, "cannot open '%s'", path);
	/* QEMU reads it again, which a pipe does not allow. */
	if (!fstat(fd, &st) && S_ISREG(st.st_mode))
		nr = read(fd, data, KEY_MAX_BYTES + 1);
	close(fd);
	if (nr < 0)
		return fail_errno(errno, "cannot read '%s'", path);
	*nr_bytes = nr;
	if (!nr || nr > KEY_MAX_BYTES)
		return fail(EXIT_USAGE,
			    "--%s '%s': must be a file with 1 to %u bytes",
			    name, path, KEY_MAX_BYTES);
	if (!is_text(data, *nr_bytes))
		return fail(EXIT_USAGE,
			    "--%s '%s': must hold text, as QEMU takes no other key; 'openssl rand -base64 32' makes one",
			    name, path);
	return EXIT_OK;
}

static int make_seed(struct key *key, const unsigned char *data,
		     size_t nr_bytes)
{
	if (PKCS5_PBKDF2_HMAC((const char *)data, nr_bytes,
			      (const unsigned char *)SEED_SALT,
			      strlen(SEED_SALT), SEED_ITERATIONS, EVP_sha256(),
			      sizeof(key->seed), key->seed))
		return EXIT_OK;
	return fail_memory();
}

static void make_object(struct key *key, const char *path)
{
	char *to = key->object;

	to += sprintf(to, "secret,id=" KEY_SECRET ",file=");
	for (; *path; path++) {
		if (*path == ',')
			*to++ = ',';
		*to++ = *path;
	}
	*to = 0;
}

/**
 * option_key() - take a file with a key
 * @name:	of the option
 * @text:	the file
 * @to:		struct key, zeroed
 *
 * Return: EXIT_OK; EXIT_USAGE or EXIT_FAILED after a message.
 */
int option_key(const char *name, const char *text, void *to)
{
	unsigned char data[KEY_MAX_BYTES + 1];
	struct key *key = to;
	char *path;
	size_t nr_bytes = 0;
	int ret;

	ret = read_key(name, text, data, &nr_bytes);
	if (!ret)
		ret = make_seed(key, data, nr_bytes);
	explicit_bzero(data, sizeof(data));
	if (ret)
		return ret;
	path = realpath(text, NULL);
	if (!path)
		return fail_errno(errno, "cannot open '%s'", text);
	make_object(key, path);
	key->file = text;
	free(path);
	return EXIT_OK;
}
