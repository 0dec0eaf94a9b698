// SPDX-License-Identifier: GPL-2.0
/*
 * Images served over NBD by qemu-storage-daemon
 *
 * A bitmap is made in these steps:
 *
 *	1. a node of the size of the image that stores nothing, with a bitmap;
 *	2. zeros are written there wherever the image has changed;
 *	3. that bitmap is merged into one of the image, and the node goes.
 *
 * The image itself is never opened for writing.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include <json.h>

#include "message.h"
#include "nbd_mark.h"
#include "output.h"
#include "qmp.h"
#include "serve.h"

#define SOCKET_FILE "s"
#define KEYS_FILE "keys.psk"	/* QEMU looks for this name */
#define KEYS_ID "keys"
#define CANNOT_SERVE "cannot serve the images"
#define CANNOT_MARK "cannot make the bitmap of what changed"

/* Nodes: image0 and shadow0 belong to the first export, and so on. */
static struct json_object *new_with_node(const char *key, const char *kind, size_t i)
{
	struct json_object *object = json_object_new_object();
	char name[32];

	snprintf(name, sizeof(name), "%s%zu", kind, i);
	add_text(object, key, name);
	return object;
}

static int open_image(struct qmp *qmp, const struct serve_export *export, size_t i)
{
	struct json_object *node = new_with_node("node-name", "image", i);
	char path[IMAGE_PATH_SIZE];

	image_format_path(&export->image, path);
	add_text(node, "driver", "host_device");
	add_text(node, "filename", path);
	json_object_object_add(node, "read-only", json_object_new_boolean(true));
	return qmp_call(qmp, "blockdev-add", node, CANNOT_SERVE);
}

/* Bits of the size of a tracking block: none of them says more than is known. */
static int add_bitmap(struct qmp *qmp, const struct serve *serve,
		      const char *kind, size_t i)
{
	struct json_object *bitmap = new_with_node("node", kind, i);

	add_text(bitmap, "name", serve->bitmap);
	add_number(bitmap, "granularity", serve->exports[i].info.blk_size);
	return qmp_call(qmp, "block-dirty-bitmap-add", bitmap, CANNOT_MARK);
}

static int add_export(struct qmp *qmp, const char *kind, size_t i, const char *name,
		      bool writable, const char *bitmap)
{
	struct json_object *export = new_with_node("node-name", kind, i);
	struct json_object *bitmaps;
	char id[32];

	snprintf(id, sizeof(id), "%s%zu", kind, i);
	add_text(export, "id", id);
	add_text(export, "type", "nbd");
	add_text(export, "name", name);
	json_object_object_add(export, "writable",
			       json_object_new_boolean(writable));
	if (bitmap) {
		bitmaps = json_object_new_array();
		json_object_array_add(bitmaps, json_object_new_string(bitmap));
		json_object_object_add(export, "bitmaps", bitmaps);
	}
	return qmp_call(qmp, "block-export-add", export, CANNOT_SERVE);
}

static int add_shadow(struct qmp *qmp, const struct serve *serve, size_t i)
{
	struct json_object *node = new_with_node("node-name", "shadow", i);
	char name[32];
	int ret;

	add_text(node, "driver", "null-co");
	add_number(node, "size", serve->exports[i].info.device_capacity);
	ret = qmp_call(qmp, "blockdev-add", node, CANNOT_MARK);
	if (!ret)
		ret = add_bitmap(qmp, serve, "shadow", i);
	snprintf(name, sizeof(name), "shadow%zu", i);
	return ret ? ret : add_export(qmp, "shadow", i, name, true, NULL);
}

static int mark_shadow(const struct serve *serve, const char *socket, size_t i)
{
	char name[32];

	snprintf(name, sizeof(name), "shadow%zu", i);
	return nbd_mark(socket, name, &serve->exports[i].extents);
}

static int merge_shadow(struct qmp *qmp, const struct serve *serve, size_t i)
{
	struct json_object *source = new_with_node("node", "shadow", i);
	struct json_object *merge = new_with_node("node", "image", i);
	struct json_object *sources = json_object_new_array();
	int ret;

	add_text(source, "name", serve->bitmap);
	json_object_array_add(sources, source);
	add_text(merge, "target", serve->bitmap);
	json_object_object_add(merge, "bitmaps", sources);
	ret = add_bitmap(qmp, serve, "image", i);
	if (ret) {
		json_object_put(merge);
		return ret;
	}
	ret = qmp_call(qmp, "block-dirty-bitmap-merge", merge, CANNOT_MARK);
	return ret ? ret : qmp_call(qmp, "blockdev-del",
				    new_with_node("node-name", "shadow", i),
				    CANNOT_MARK);
}

typedef int shadow_call(struct qmp *qmp, const struct serve *serve, size_t i);

/* Of those exports that have a base. */
static int call_for_shadows(struct qmp *qmp, const struct serve *serve,
			    shadow_call *call)
{
	int ret = EXIT_OK;
	size_t i;

	for (i = 0; i < serve->nr_exports && !ret; i++) {
		if (serve->exports[i].has_since)
			ret = call(qmp, serve, i);
	}
	return ret;
}

static int listen_on(struct qmp *qmp, const char *socket, const struct address *network)
{
	struct json_object *arguments = json_object_new_object();
	struct json_object *address = json_object_new_object();
	struct json_object *data = json_object_new_object();

	add_text(address, "type", network ? "inet" : "unix");
	if (network) {
		add_text(data, "host", network->host);
		add_text(data, "port", network->port);
		add_text(arguments, "tls-creds", KEYS_ID);
	} else {
		add_text(data, "path", socket);
	}
	json_object_object_add(address, "data", data);
	json_object_object_add(arguments, "addr", address);
	return qmp_call(qmp, "nbd-server-start", arguments,
			"cannot listen for clients");
}

static bool has_base(const struct serve *serve)
{
	size_t i;

	for (i = 0; i < serve->nr_exports; i++) {
		if (serve->exports[i].has_since)
			return true;
	}
	return false;
}

/* The end of the server is that of its exports, and is waited for. */
static int make_bitmaps(struct qmp *qmp, const struct serve *serve,
			const char *socket)
{
	int ret;
	size_t i;

	if (!has_base(serve))
		return EXIT_OK;
	ret = listen_on(qmp, socket, NULL);
	if (!ret)
		ret = call_for_shadows(qmp, serve, add_shadow);
	for (i = 0; i < serve->nr_exports && !ret; i++) {
		if (serve->exports[i].has_since)
			ret = mark_shadow(serve, socket, i);
	}
	if (!ret)
		ret = qmp_call(qmp, "nbd-server-stop", NULL, CANNOT_MARK);
	return ret ? ret : call_for_shadows(qmp, serve, merge_shadow);
}

static int load_keys(struct qmp *qmp, const struct address *address)
{
	struct json_object *object = json_object_new_object();
	char *link = address_file(address, KEYS_FILE);
	int ret = link ? EXIT_OK : EXIT_FAILED;

	if (link && symlink(address->keys, link))
		ret = fail_errno(errno, "cannot make '%s'", link);
	free(link);
	add_text(object, "qom-type", "tls-creds-psk");
	add_text(object, "id", KEYS_ID);
	add_text(object, "endpoint", "server");
	add_text(object, "dir", address->dir);
	if (!ret)
		return qmp_call(qmp, "object-add", object, "cannot use the keys");
	json_object_put(object);
	return ret;
}

static int open_images(struct qmp *qmp, const struct serve *serve)
{
	int ret = EXIT_OK;
	size_t i;

	for (i = 0; i < serve->nr_exports && !ret; i++)
		ret = open_image(qmp, &serve->exports[i], i);
	return ret;
}

static int export_images(struct qmp *qmp, const struct serve *serve)
{
	const struct serve_export *export = serve->exports;
	int ret = EXIT_OK;
	size_t i;

	for (i = 0; i < serve->nr_exports && !ret; i++, export++)
		ret = add_export(qmp, "image", i, export->name, false,
				 export->has_since ? serve->bitmap : NULL);
	return ret;
}

static int go_public(struct qmp *qmp, struct serve *serve, const char *socket)
{
	struct address *address = &serve->address;
	int ret = EXIT_OK;

	if (address->host)
		ret = load_keys(qmp, address);
	if (!ret)
		ret = listen_on(qmp, socket, address->host ? address : NULL);
	if (!ret)
		ret = export_images(qmp, serve);
	return ret || address->host ? ret : address_publish(address, socket);
}

/**
 * serve_images() - start to serve images, with bitmaps of what changed
 * @serve:	what, and where; the address is open
 *
 * Return: EXIT_OK, or EXIT_FAILED after a message; there may be a child in any
 *	   case.
 */
int serve_images(struct serve *serve)
{
	static const char *const argv[] = {
		"qemu-storage-daemon", "--chardev", "socket,id=qmp,fd=3",
		"--monitor", "chardev=qmp", NULL
	};
	char *socket = address_file(&serve->address, SOCKET_FILE);
	struct qmp qmp = { 0 };
	int ret;

	if (!socket)
		return EXIT_FAILED;
	ret = qmp_start(&qmp, &serve->child, argv, CANNOT_SERVE);
	if (!ret)
		ret = open_images(&qmp, serve);
	if (!ret)
		ret = make_bitmaps(&qmp, serve, socket);
	if (!ret)
		ret = go_public(&qmp, serve, socket);
	qmp_free(&qmp);
	free(socket);
	return ret;
}
