import type { FastifyReply, FastifyRequest } from 'fastify'
import { readChangesSince } from '../../jobs/changes.ts'
import type { Job } from '../../jobs/job.ts'
import { isFinal } from '../../jobs/status.ts'
import { bufferChanges } from '../../watch/buffer-changes.ts'
import { mayUseOperation } from '../access.ts'
import { findRequestedJob, type JobRequest } from '../protocol/find-job.ts'
import { makeFromWholeJob, toMonitorJson } from '../protocol/send-monitor.ts'
import type { Service } from '../service.ts'
import { decodeEventCursor, type EventCursor, encodeEventCursor } from './cursor.ts'
import { paceParent } from './pace-parent.ts'
import type { Snapshot } from './snapshot.ts'

/** A client that has missed more changes than this gets a snapshot instead of the changes. */
const maxMissedChanges = 1_000

/**
 * Streams the changes of a job until the job ends. A client that has already received the final event gets 204, so that
 * it does not reconnect.
 *
 * @throws ProblemError not-found, job-expired, too-many-requests
 */
export async function streamJob(service: Service, request: JobRequest, reply: FastifyReply): Promise<FastifyReply> {
  service.openRequests.openStream(request, reply)
  const changes = bufferChanges((onChange) => service.watcher.watchJob(request.params.id, onChange))
  try {
    const job = await findRequestedJob(service, request)
    const isKnown = lastEventIdOf(request) === job.sequence
    const hasReceivedEnd = isKnown && isFinal(job.status)
    if (request.method === 'HEAD' || hasReceivedEnd) {
      changes.stop()
      return sendHeadOnly(reply, hasReceivedEnd ? 204 : 200)
    }
    const site = service.siteOf(request)
    let wholeMonitor: string | undefined
    const pace = paceParent((changed) => send(changed))
    const stream = service.streams.open(reply, {
      encode: (changed, lastSent) =>
        service.encoder.encodeSse(changed, lastSent, {
          site,
          viewer: request.principal,
          id: changed.sequence,
          wholeMonitor,
        }),
      known: isKnown ? [job] : [],
      onClose: () => {
        pace.stop()
        changes.stop()
      },
    })
    const sendEnd = (ended: Job) => {
      stream.send(ended)
      stream.end()
    }
    const send = (changed: Job) => {
      if (!isFinal(changed.status)) return stream.send(changed)
      if (!changed.is_cut) return sendEnd(changed)
      makeFromWholeJob(service, reply, changed, toMonitorJson(service, reply))
        .then((json) => {
          wholeMonitor = json
          sendEnd(changed)
        })
        .catch(() => stream.closeForReconnect())
    }
    changes.deliverTo(pace.send, [job])
    return reply
  } catch (error) {
    changes.stop()
    throw error
  }
}

/** Streams the changes of all jobs of the caller. First sends a snapshot or the missed changes, then live changes. */
export async function streamAllJobs(
  service: Service,
  request: FastifyRequest,
  reply: FastifyReply,
): Promise<FastifyReply> {
  if (request.method === 'HEAD') return sendHeadOnly(reply, 200)
  service.openRequests.openStream(request, reply)
  const { principal } = request
  const changes = bufferChanges((onChange) =>
    service.watcher.watchPrincipal(principal, (job) => mayUseOperation(request, job.operation) && onChange(job)),
  )
  try {
    const cursor = decodeEventCursor(lastEventIdOf(request))
    const missed = cursor && (await readMissedChanges(service, principal, cursor))
    const { since, jobs: found } = missed ?? (await service.readSnapshot(principal))
    const jobs = found.filter(({ operation }) => mayUseOperation(request, operation))
    service.watcher.pollSince(since)
    const site = service.siteOf(request)
    const stream = service.streams.open(reply, {
      encode: (job, lastSent, sentSince) =>
        service.encoder.encodeSse(job, lastSent, {
          ...{ site, viewer: principal },
          id: encodeEventCursor(job, sentSince),
          includeJobId: true,
        }),
      known: [],
      onClose: changes.stop,
    })
    // Only the last of these events has an id with the new position. A client that disconnects before it receives this
    // event resumes from its old position, or gets a new snapshot.
    const lastJob = jobs.at(-1)
    for (const job of jobs.slice(0, -1)) stream.send(job, missed && cursor?.since)
    let isLive = false
    const send = (job: Job) => stream.send(job, (isLive && service.watcher.position) || since)
    changes.deliverTo(send, lastJob ? [lastJob] : [])
    isLive = true
    return reply
  } catch (error) {
    changes.stop()
    throw error
  }
}

/** Returns the id of the last event that the client received. After a reconnect, the header is newer than the query. */
function lastEventIdOf({ headers, query }: FastifyRequest): string | undefined {
  const header = headers['last-event-id']
  const { lastEventId } = query as { lastEventId?: string }
  return typeof header === 'string' && header !== '' ? header : lastEventId
}

/**
 * Reads the changes since a cursor. The client may already know some. Returns undefined if there are too many, or if
 * they are no longer known.
 */
async function readMissedChanges(
  { database }: Service,
  principal: string,
  { since, jobId, sequence }: EventCursor,
): Promise<Snapshot | undefined> {
  const changed = await readChangesSince(database.kysely, { principal, since, limit: maxMissedChanges })
  if (!changed) return undefined
  const jobs = changed.jobs.filter((job) => job.id !== jobId || job.sequence !== sequence)
  return { since: changed.position, jobs }
}

const sendHeadOnly = (reply: FastifyReply, status: 200 | 204) =>
  reply
    .code(status)
    .headers({
      'cache-control': 'no-store, no-transform',
      ...(status === 200 && { 'content-type': 'text/event-stream' }),
    })
    .send()
