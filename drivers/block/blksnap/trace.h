/* SPDX-License-Identifier: GPL-2.0 */
/*
 * Tracepoints: what becomes of writes to an origin, of reads of an image, of a take
 */
#undef TRACE_SYSTEM
#define TRACE_SYSTEM blksnap

#if !defined(BLKSNAP_TRACE_H) || defined(TRACE_HEADER_MULTI_READ)
#define BLKSNAP_TRACE_H

#include <linux/string.h>
#include <linux/tracepoint.h>
#include <linux/types.h>
#include <linux/uuid.h>

#include "cbt_map.h"

/* All sectors are relative to the origin, all counts are sectors of 512 bytes. */
DECLARE_EVENT_CLASS(blksnap_range,
		    TP_PROTO(dev_t origin, sector_t sector, sector_t nr_sectors),
		    TP_ARGS(origin, sector, nr_sectors),
		    TP_STRUCT__entry(__field(dev_t, origin)
				     __field(sector_t, sector)
				     __field(sector_t, nr_sectors)
				     ),
		    TP_fast_assign(__entry->origin = origin;
				   __entry->sector = sector;
				   __entry->nr_sectors = nr_sectors;
				   ),
		    TP_printk("%d,%d %llu + %llu",
			      MAJOR(__entry->origin), MINOR(__entry->origin),
			      (unsigned long long)__entry->sector,
			      (unsigned long long)__entry->nr_sectors)
);

/* A write is held until blocks have been copied. */
DEFINE_EVENT(blksnap_range, blksnap_hold,
	     TP_PROTO(dev_t origin, sector_t sector, sector_t nr_sectors),
	     TP_ARGS(origin, sector, nr_sectors)
);

/* A held write is submitted again. */
DEFINE_EVENT(blksnap_range, blksnap_release,
	     TP_PROTO(dev_t origin, sector_t sector, sector_t nr_sectors),
	     TP_ARGS(origin, sector, nr_sectors)
);

/* Old data has been read into memory. */
DEFINE_EVENT(blksnap_range, blksnap_copy_done,
	     TP_PROTO(dev_t origin, sector_t sector, sector_t nr_sectors),
	     TP_ARGS(origin, sector, nr_sectors)
);

/* Old data has reached the difference storage. */
DEFINE_EVENT(blksnap_range, blksnap_stored,
	     TP_PROTO(dev_t origin, sector_t sector, sector_t nr_sectors),
	     TP_ARGS(origin, sector, nr_sectors)
);

/* Part of an image read has been sent to the origin or the storage. */
DEFINE_EVENT(blksnap_range, blksnap_image_remap,
	     TP_PROTO(dev_t origin, sector_t sector, sector_t nr_sectors),
	     TP_ARGS(origin, sector, nr_sectors)
);

/* Part of an image read met the copying of its blocks and is served again. */
DEFINE_EVENT(blksnap_range, blksnap_image_again,
	     TP_PROTO(dev_t origin, sector_t sector, sector_t nr_sectors),
	     TP_ARGS(origin, sector, nr_sectors)
);

/* A discard of blocks that are not copied is put off until the snapshot ends. */
DEFINE_EVENT(blksnap_range, blksnap_discard_skip,
	     TP_PROTO(dev_t origin, sector_t sector, sector_t nr_sectors),
	     TP_ARGS(origin, sector, nr_sectors)
);

TRACE_EVENT(blksnap_fail,
	    TP_PROTO(dev_t origin, int error),
	    TP_ARGS(origin, error),
	    TP_STRUCT__entry(__field(dev_t, origin)
			     __field(int, error)
			     ),
	    TP_fast_assign(__entry->origin = origin;
			   __entry->error = error;
			   ),
	    TP_printk("%d,%d error %d",
		      MAJOR(__entry->origin), MINOR(__entry->origin),
		      __entry->error)
);

/* Another generation of the change map has begun: numbers of before mean nothing. */
TRACE_EVENT(blksnap_generation_end,
	    TP_PROTO(dev_t origin, enum cbt_reason reason),
	    TP_ARGS(origin, reason),
	    TP_STRUCT__entry(__field(dev_t, origin)
			     __array(char, reason, CBT_REASON_BYTES)
			     ),
	    TP_fast_assign(__entry->origin = origin;
			   strscpy(__entry->reason, cbt_reason_name(reason),
				   CBT_REASON_BYTES);
			   ),
	    TP_printk("%d,%d %s", MAJOR(__entry->origin), MINOR(__entry->origin),
		      __entry->reason)
);

/* Free space of the difference storage has fallen to the limit. */
TRACE_EVENT(blksnap_low_space,
	    TP_PROTO(const uuid_t *snapshot, sector_t nr_free, sector_t nr_wanted),
	    TP_ARGS(snapshot, nr_free, nr_wanted),
	    TP_STRUCT__entry(__array(u8, snapshot, UUID_SIZE)
			     __field(sector_t, nr_free)
			     __field(sector_t, nr_wanted)
			     ),
	    TP_fast_assign(export_uuid(__entry->snapshot, snapshot);
			   __entry->nr_free = nr_free;
			   __entry->nr_wanted = nr_wanted;
			   ),
	    TP_printk("%pUb free %llu wanted %llu", __entry->snapshot,
		      (unsigned long long)__entry->nr_free,
		      (unsigned long long)__entry->nr_wanted)
);

TRACE_EVENT(blksnap_take_begin,
	    TP_PROTO(const uuid_t *snapshot, u32 nr_devices),
	    TP_ARGS(snapshot, nr_devices),
	    TP_STRUCT__entry(__array(u8, snapshot, UUID_SIZE)
			     __field(u32, nr_devices)
			     ),
	    TP_fast_assign(export_uuid(__entry->snapshot, snapshot);
			   __entry->nr_devices = nr_devices;
			   ),
	    TP_printk("%pUb devices %u", __entry->snapshot, __entry->nr_devices)
);

/* A step of a take is done; the events say what their ns are the duration of. */
DECLARE_EVENT_CLASS(blksnap_take_step,
		    TP_PROTO(const uuid_t *snapshot, u64 ns),
		    TP_ARGS(snapshot, ns),
		    TP_STRUCT__entry(__array(u8, snapshot, UUID_SIZE)
				     __field(u64, ns)
				     ),
		    TP_fast_assign(export_uuid(__entry->snapshot, snapshot);
				   __entry->ns = ns;
				   ),
		    TP_printk("%pUb ns %llu", __entry->snapshot, __entry->ns)
);

/* All filesystems are frozen: syncing and freezing. */
DEFINE_EVENT(blksnap_take_step, blksnap_take_frozen,
	     TP_PROTO(const uuid_t *snapshot, u64 ns),
	     TP_ARGS(snapshot, ns)
);

/* All gates are closed, and no write is on its way past them: getting there. */
DEFINE_EVENT(blksnap_take_step, blksnap_take_gated,
	     TP_PROTO(const uuid_t *snapshot, u64 ns),
	     TP_ARGS(snapshot, ns)
);

/* All gates are open again: how long writers stood still. */
DEFINE_EVENT(blksnap_take_step, blksnap_take_ungated,
	     TP_PROTO(const uuid_t *snapshot, u64 ns),
	     TP_ARGS(snapshot, ns)
);

/* The filesystems are being thawed: how long they were frozen, or being frozen. */
DEFINE_EVENT(blksnap_take_step, blksnap_take_thawed,
	     TP_PROTO(const uuid_t *snapshot, u64 ns),
	     TP_ARGS(snapshot, ns)
);

/* The writes that were in flight have landed: waiting for them. */
DEFINE_EVENT(blksnap_take_step, blksnap_take_drained,
	     TP_PROTO(const uuid_t *snapshot, u64 ns),
	     TP_ARGS(snapshot, ns)
);

/* The call is over: all of it. */
TRACE_EVENT(blksnap_take_end,
	    TP_PROTO(const uuid_t *snapshot, u64 ns, int error),
	    TP_ARGS(snapshot, ns, error),
	    TP_STRUCT__entry(__array(u8, snapshot, UUID_SIZE)
			     __field(u64, ns)
			     __field(int, error)
			     ),
	    TP_fast_assign(export_uuid(__entry->snapshot, snapshot);
			   __entry->ns = ns;
			   __entry->error = error;
			   ),
	    TP_printk("%pUb ns %llu error %d", __entry->snapshot, __entry->ns,
		      __entry->error)
);

#endif /* BLKSNAP_TRACE_H */

#undef TRACE_INCLUDE_PATH
#define TRACE_INCLUDE_PATH .
#undef TRACE_INCLUDE_FILE
#define TRACE_INCLUDE_FILE trace
#include <trace/define_trace.h>
