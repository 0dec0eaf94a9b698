// SPDX-License-Identifier: GPL-2.0
/*
 * Where clients connect to an NBD server
 */
#include <dirent.h>
#include <errno.h>
#include <libgen.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

#include "address.h"
#include "message.h"
#include "parse.h"
#include "run_dir.h"

#define DEFAULT_SOCKET "nbd.sock"

/* Of a name in the folder of the server, whose own name is short as well. */
#define SOCKET_PATH_MAX (sizeof(((struct sockaddr_un *)0)->sun_path) - 24)

/* "HOST", "HOST:PORT", "[V6]" or "[V6]:PORT"; false if it is none of them. */
static bool split_listen(const char *text, struct address *address)
{
	const char *host = text, *end, *rest;
	uint64_t port;

	if (*text == '[') {
		host++;
		end = strchr(host, ']');
		if (!end)
			return false;
		rest = end + 1;
	} else {
		end = host + strcspn(host, ":");
		rest = end;
	}
	if (end == host || (*rest && *rest != ':'))
		return false;
	rest = *rest ? rest + 1 : ADDRESS_DEFAULT_PORT;
	if (!parse_u64(rest, UINT16_MAX, &port) || !port)
		return false;
	address->host = strndup(host, end - host);
	address->port = strdup(rest);
	return address->host && address->port;
}

/**
 * address_take_listen() - take an address of the network
 * @name:	of the option
 * @text:	the argument
 * @to:		struct address
 *
 * Return: EXIT_OK, or EXIT_USAGE after a message.
 */
int address_take_listen(const char *name, const char *text, void *to)
{
	if (split_listen(text, to))
		return EXIT_OK;
	return fail(EXIT_USAGE,
		    "--%s '%s': must be ADDRESS or ADDRESS:PORT, with an IPv6 address in []",
		    name, text);
}

/**
 * address_take_keys() - take a file with keys, as psktool writes them
 * @name:	of the option
 * @text:	the argument
 * @to:		struct address
 *
 * Return: EXIT_OK, or EXIT_USAGE after a message.
 */
int address_take_keys(const char *name, const char *text, void *to)
{
	struct address *address = to;
	struct stat st;

	if (stat(text, &st))
		return fail(EXIT_USAGE, "--%s '%s': %s; 'psktool -u NAME -p FILE' makes one",
			    name, text, strerror(errno));
	if (!S_ISREG(st.st_mode) || !st.st_size)
		return fail(EXIT_USAGE,
			    "--%s '%s': must be a file with lines of USER:KEY; 'psktool -u NAME -p FILE' makes one",
			    name, text);
	if (st.st_mode & 077)
		return fail(EXIT_USAGE,
			    "--%s '%s': other users can read the keys; 'chmod 600' comes first, or new keys",
			    name, text);
	free(address->keys);
	address->keys = realpath(text, NULL);
	return address->keys ? EXIT_OK : fail_memory();
}

/**
 * address_check() - do the options go together?
 * @address:	the address
 *
 * Return: EXIT_OK, or EXIT_USAGE after a message.
 */
int address_check(const struct address *address)
{
	if (address->socket && address->host)
		return fail(EXIT_USAGE, "--socket and --listen exclude each other");
	if (address->host && !address->keys)
		return fail(EXIT_USAGE,
			    "--listen needs --tls-psk, a file with keys; 'psktool -u NAME -p FILE' makes one");
	if (address->keys && !address->host)
		return fail(EXIT_USAGE, "--tls-psk is for --listen, add it");
	if (address->socket && strlen(address->socket) > SOCKET_PATH_MAX)
		return fail(EXIT_USAGE,
			    "--socket '%s': is too long for a socket; at most %zu characters are possible",
			    address->socket, SOCKET_PATH_MAX);
	return EXIT_OK;
}

static bool has_server(const char *path)
{
	struct sockaddr_un to = { .sun_family = AF_UNIX };
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	bool has;

	strncpy(to.sun_path, path, sizeof(to.sun_path) - 1);
	has = !connect(fd, (struct sockaddr *)&to, sizeof(to)) || errno != ECONNREFUSED;
	close(fd);
	return has;
}

/* One that was killed just now may need a moment to go. */
static bool keeps_server(const char *path)
{
	const struct timespec step = { .tv_nsec = 100000000 };
	unsigned int i;

	for (i = 0; i < 20; i++) {
		if (!has_server(path))
			return false;
		nanosleep(&step, NULL);
	}
	return true;
}

/* What a server that was killed has left may go. */
static int remove_stale(const char *path)
{
	struct stat st;

	if (lstat(path, &st))
		return EXIT_OK;
	if (S_ISSOCK(st.st_mode) && !keeps_server(path) && !unlink(path))
		return EXIT_OK;
	return fail(EXIT_FAILED,
		    "'%s' is there already; %s, or name another one by --socket", path,
		    S_ISSOCK(st.st_mode) ? "end the server that has it" : "remove it");
}

static int make_dir(struct address *address, const char *parent)
{
	if (asprintf(&address->dir, "%s/.nbd-XXXXXX", parent) < 0) {
		address->dir = NULL;
		return fail_memory();
	}
	if (mkdtemp(address->dir))
		return EXIT_OK;
	free(address->dir);
	address->dir = NULL;
	return fail_errno(errno, "cannot make a folder in '%s'", parent);
}

static int choose_socket(struct address *address)
{
	if (address->socket)
		return EXIT_OK;
	if (asprintf(&address->own_socket, "%s/" DEFAULT_SOCKET, run_dir()) < 0) {
		address->own_socket = NULL;
		return fail_memory();
	}
	address->socket = address->own_socket;
	return run_dir_make(run_dir());
}

/**
 * address_open() - get hold of the address
 * @address:	the address; address_close() is to be called in any case
 *
 * Return: EXIT_OK, or EXIT_FAILED after a message.
 */
int address_open(struct address *address)
{
	char *copy;
	int ret;

	if (address->host) {
		ret = run_dir_make(run_dir());
		return ret ? ret : make_dir(address, run_dir());
	}
	ret = choose_socket(address);
	if (!ret)
		ret = remove_stale(address->socket);
	if (ret)
		return ret;
	copy = strdup(address->socket);
	if (!copy)
		return fail_memory();
	/* The name is given by a link, so it is on the same filesystem. */
	ret = make_dir(address, dirname(copy));
	free(copy);
	return ret;
}

/**
 * address_file() - name a file that only the server knows
 * @address:	the address, which is open
 * @name:	of the file, a few letters
 *
 * Return: its path, to be freed by the caller; NULL after a message.
 */
char *address_file(const struct address *address, const char *name)
{
	char *path;

	if (asprintf(&path, "%s/%s", address->dir, name) >= 0)
		return path;
	fail_memory();
	return NULL;
}

static void remove_dir(struct address *address)
{
	struct dirent *entry;
	DIR *dir;

	if (!address->dir)
		return;
	dir = opendir(address->dir);
	while (dir && (entry = readdir(dir)))
		if (entry->d_name[0] != '.')
			unlinkat(dirfd(dir), entry->d_name, 0);
	if (dir)
		closedir(dir);
	rmdir(address->dir);
	free(address->dir);
	address->dir = NULL;
}

/**
 * address_publish() - let clients find the socket of a server that is ready
 * @address:	the address, not of the network
 * @path:	the socket that the server listens on
 *
 * The folder of the server goes: no server reads it after this.
 *
 * Return: EXIT_OK, or EXIT_FAILED after a message.
 */
int address_publish(struct address *address, const char *path)
{
	if (chmod(path, 0600) || link(path, address->socket))
		return fail_errno(errno, "cannot make the socket '%s'",
				  address->socket);
	address->published = true;
	remove_dir(address);
	return EXIT_OK;
}

/**
 * address_close() - take the address back
 * @address:	the address; its server has ended
 */
void address_close(struct address *address)
{
	if (address->published)
		unlink(address->socket);
	remove_dir(address);
	free(address->own_socket);
	free(address->host);
	free(address->port);
	free(address->keys);
	*address = (struct address) { 0 };
}

/* As a URI has it; NULL without memory. */
static char *escape(const char *path)
{
	char *text = malloc(3 * strlen(path) + 1), *to = text;

	if (!text)
		return NULL;
	for (; *path; path++) {
		if (strchr("/._-~", *path) || (*path >= '0' && *path <= '9') ||
		    (*path >= 'A' && *path <= 'Z') || (*path >= 'a' && *path <= 'z'))
			*to++ = *path;
		else
			to += sprintf(to, "%%%02X", (unsigned char)*path);
	}
	*to = 0;
	return text;
}

/**
 * address_uri() - write how clients name an export
 * @address:	the address
 * @name:	of the export, without characters that a URI cannot have
 *
 * Return: a text to be freed by the caller, NULL without memory.
 */
char *address_uri(const struct address *address, const char *name)
{
	const bool is_v6 = address->host && strchr(address->host, ':');
	char *path, *uri;
	int ret;

	if (address->host) {
		ret = asprintf(&uri, "nbds://%s%s%s:%s/%s", is_v6 ? "[" : "",
			       address->host, is_v6 ? "]" : "", address->port, name);
	} else {
		path = escape(address->socket);
		ret = path ? asprintf(&uri, "nbd+unix:///%s?socket=%s", name, path) : -1;
		free(path);
	}
	return ret < 0 ? NULL : uri;
}
