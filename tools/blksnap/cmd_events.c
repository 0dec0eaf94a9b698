// SPDX-License-Identifier: GPL-2.0
/*
 * Command: snapshot events
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <blksnap/blksnap.h>

#include "commands.h"
#include "device.h"
#include "message.h"
#include "output.h"
#include "parse.h"

#define NSEC_PER_SEC 1000000000LL

static void describe_low_free_space(const struct blk_snap_snapshot_event *event,
				    struct json_object *object, bool json)
{
	struct blk_snap_event_low_free_space data;
	char size[SIZE_TEXT_SIZE];

	memcpy(&data, event->data, sizeof(data));
	add_number(object, "requested_sectors", data.requested_nr_sect);
	if (json)
		return;
	format_size(data.requested_nr_sect << BLKSNAP_SECTOR_SHIFT, size);
	printf("low_free_space  append %llu sectors (%s)\n",
	       (unsigned long long)data.requested_nr_sect, size);
}

static void describe_corrupted(const struct blk_snap_snapshot_event *event,
			       struct json_object *object, bool json)
{
	struct blk_snap_event_corrupted data;
	char number[DEVICE_NUMBER_SIZE];
	const char *name;
	char *path;

	memcpy(&data, event->data, sizeof(data));
	name = strerrorname_np(data.err_code);
	add_dev(object, "origin", "origin_number", data.orig_dev_id);
	add_number(object, "errno", data.err_code);
	add_text(object, "error", name);
	if (json)
		return;
	path = device_path(data.orig_dev_id);
	device_format_number(data.orig_dev_id, number);
	printf("corrupted       %s: image lost: %s\n", path ? path : number,
	       strerror(data.err_code));
	free(path);
}

static void print_event(const struct blk_snap_snapshot_event *event, bool json)
{
	struct json_object *object = json_object_new_object();

	if (!json)
		printf("%lld.%06lld  ",
		       (long long)(event->time_label / NSEC_PER_SEC),
		       (long long)(event->time_label % NSEC_PER_SEC / 1000));
	add_number(object, "time_ns", event->time_label);
	switch (event->code) {
	case blk_snap_event_code_low_free_space:
		add_text(object, "event", "low_free_space");
		describe_low_free_space(event, object, json);
		break;
	case blk_snap_event_code_corrupted:
		add_text(object, "event", "corrupted");
		describe_corrupted(event, object, json);
		break;
	default:
		add_text(object, "event", "unknown");
		add_number(object, "code", event->code);
		if (!json)
			printf("unknown         code %u\n", event->code);
	}
	if (json)
		output_json_line(object);
	json_object_put(object);
	fflush(stdout);
}

struct events_options {
	bool follow;
	bool has_timeout;
	uint64_t timeout_ms;
};

struct printing {
	bool follow;
	bool json;
	bool done;
};

static int print_and_go_on(const struct blk_snap_snapshot_event *event, void *arg)
{
	struct printing *printing = arg;

	print_event(event, printing->json);
	printing->done = !printing->follow || ferror(stdout);
	return printing->done;
}

static int print_events(struct blksnap *blksnap, const struct blk_snap_uuid *id,
			const struct events_options *eo, bool json)
{
	struct printing printing = { .follow = eo->follow, .json = json };
	int64_t timeout_ms = eo->has_timeout ? (int64_t)eo->timeout_ms : -1;
	int ret;

	ret = check_snapshot_exists(blksnap, id, "cannot wait for events");
	if (ret)
		return ret;
	ret = blksnap_snapshot_watch(blksnap, id, timeout_ms, print_and_go_on,
				     &printing);
	if (printing.done)
		return EXIT_OK;
	if (ret == -ENOENT)
		return EXIT_NO_EVENT;
	/* To be destroyed is how a snapshot that is followed ends. */
	if (ret == -ESRCH && eo->follow)
		return EXIT_OK;
	return fail_call("cannot wait for events");
}

static int take_timeout(const char *name, const char *text, void *to)
{
	struct events_options *eo = to;

	if (!parse_u64(text, UINT32_MAX, &eo->timeout_ms))
		return fail(EXIT_USAGE,
			    "--%s '%s': must be a number of milliseconds, 0 to 4294967295",
			    name, text);
	eo->has_timeout = true;
	return EXIT_OK;
}

static int run_events(struct cmdline *cl)
{
	struct events_options eo = { 0 };
	const struct cmdline_option options[] = {
		{ "timeout", take_timeout, &eo },
		{ "follow", NULL, &eo.follow },
		{ 0 }
	};
	struct blk_snap_uuid id;
	struct blksnap *blksnap;
	int ret;

	ret = parse_with_id(cl, options, &id);
	if (!ret)
		ret = open_module(&blksnap);
	if (ret)
		return ret;
	ret = print_events(blksnap, &id, &eo, cl->json);
	blksnap_close(blksnap);
	return ret;
}

const struct command command_snapshot_events = {
	.group = "snapshot",
	.name = "events",
	.args = "ID [--timeout MS] [--follow]",
	.summary = "Wait for an event of a snapshot and print it",
	.help =
		"Prints when the event arose, in seconds since the boot, and what it is:\n"
		"\n"
		"  low_free_space  the difference storage runs short; append some more\n"
		"  corrupted       the image of a device is lost\n"
		"\n"
		"Each event is given out once: to this command, or to another program that\n"
		"waits.\n"
		"\n"
		"  --timeout MS  wait at most so many milliseconds for an event; exit code 4 if\n"
		"                none arises.  Without it, wait for ever\n"
		"  --follow      print event after event, until the snapshot is destroyed\n",
	.run = run_events,
};
