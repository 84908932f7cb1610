import type { WebSocket, WebsocketPluginOptions } from '@fastify/websocket'
import { CloudEvent } from 'cloudevents'
import type { FastifyRequest } from 'fastify'
import { type ProblemCode, ProblemError, problems } from '../errors.ts'
import type { Job } from '../jobs/job.ts'
import { findJobs } from '../jobs/read.ts'
import { RecentMap } from '../recent-map.ts'
import { type Following, follow } from '../watch/follow.ts'
import { startPace } from './pace.ts'
import type { Service } from './service.ts'

/** CloudEvents' WebSocket protocol binding, section 3.1: one event in JSON per text frame. */
export const subprotocol = 'cloudevents.json'

/** A client that subscribes at once is not told of all its jobs first. In milliseconds. */
const subscribesWithin = 100
/** How often a client is asked whether it is still there; one that does not answer in time is cut off. In milliseconds. */
const pingEvery = 15_000
/** What a slow client has not taken yet is kept apart, to be overtaken by what is newer, beyond so many bytes. */
const mostBuffered = 64 * 1024
const mostSubscriptions = 1_000
/** What is longer is no id, and is not repeated in an answer. */
const longestId = 255
/** How long a client may take to answer our goodbye, in milliseconds. */
const leavesWithin = 1_000
/** Jobs that a connection remembers having told of. */
const mostRemembered = 10_000

/** Close codes (RFC 6455, section 7.4.1). */
const goingAway = 1001
const unsupportedData = 1003
const internalError = 1011

/** The options of @fastify/websocket. */
export const socketOptions: WebsocketPluginOptions = {
  options: {
    maxPayload: 64 * 1024,
    handleProtocols: (offered) => (offered.has(subprotocol) ? subprotocol : false),
  },
  // Each connection says goodbye by itself.
  preClose: (done) => done(),
}

/**
 * A `preValidation` hook: a browser sends cookies along whoever's page opens the socket, and lets the page read it.
 *
 * @throws ProblemError foreign-origin
 */
export function refuseForeignOrigin(service: Service) {
  return async (request: FastifyRequest): Promise<void> => {
    const { origin } = request.headers
    if (!request.ws || origin === undefined) return
    if (URL.parse(origin)?.host === request.host || origin === service.originOf(request)) return
    throw new ProblemError('foreign-origin')
  }
}

/** Tells a client of its jobs: of those it subscribes to, or of all while it subscribes to none. */
export function connectSocket(service: Service, socket: WebSocket, request: FastifyRequest): void {
  const origin = service.originOf(request)
  const { principal } = request
  const subscriptions = new Map<string, Following>()
  const told = new RecentMap<number>(mostRemembered)
  let isAlive = true

  // Nobody waits for what is told here, and an error that nobody catches would end the process.
  const fail = (error: unknown) => {
    request.log.error({ err: error }, 'WebSocket')
    socket.close(internalError, problems['internal-error'].title)
  }
  /** What is still to be sent, by subject. */
  const pending = new Map<string, () => string>()
  let isBlocked = false
  const pace = startPace()
  const flush = () => {
    isBlocked = false
    if (socket.bufferedAmount <= mostBuffered) pace.keepsUp()
    for (const [subject, frame] of pending) {
      isBlocked = socket.bufferedAmount > mostBuffered
      if (isBlocked) return
      pending.delete(subject)
      socket.send(frame(), (error) => {
        if (error) return
        // Who makes room has received something; the answer to a ping may be a long way behind.
        if (isBlocked) isAlive = true
        send()
      })
    }
  }
  const send = () => {
    try {
      flush()
    } catch (error) {
      pending.clear()
      fail(error)
    }
  }
  const put = (subject: string, frame: () => string) => {
    if (socket.readyState !== socket.OPEN) return
    pending.set(subject, frame)
    if (pace.isBehind(pending.size)) socket.terminate()
    else send()
  }
  const tell = (job: Job) => {
    const sequence = Number(job.sequence)
    if (sequence <= (told.get(job.id) ?? 0)) return
    told.set(job.id, sequence)
    put(job.id, () => service.news.cloudEvent(job, origin))
  }
  const complain = (code: ProblemCode, message: string, subject = '') => {
    const data = { error: { code, message } }
    const event = { source: `${origin}/events`, type: 'error', data, ...(subject && { subject }) }
    put(subject, () => JSON.stringify(new CloudEvent(event)))
  }

  const watchAll = () => ({
    watchedFrom: performance.now(),
    following: follow((onChange) => service.watcher.watchPrincipal(principal, onChange)),
  })
  let all: ReturnType<typeof watchAll> | undefined = watchAll()
  /** @param isBegin tells of the newest as well, and not only of what changes */
  const tellOfAll = async (watched: ReturnType<typeof watchAll>, isBegin: boolean) => {
    all = watched
    const found = await service.snapshotOf(principal).catch(() => undefined)
    if (all !== watched) return
    if (!found) return socket.close(goingAway, 'Try again')
    // It has been watched for longer than since the newest were read, and what changed meanwhile may be none of them.
    service.watcher.lookSince(new Date(found.since.getTime() - (performance.now() - watched.watchedFrom)))
    watched.following.begin(tell, isBegin ? found.jobs : [])
  }
  const timer = setTimeout(tellOfAll, subscribesWithin, all, true)
  const tellOfAllNoMore = () => {
    clearTimeout(timer)
    all?.following.stop()
    all = undefined
  }

  const unsubscribe = (id: string) => {
    subscriptions.get(id)?.stop()
    subscriptions.delete(id)
    pending.delete(id)
  }
  const subscribe = async (ids: ReadonlySet<string>) => {
    if (ids.size === 0) return
    if (new Set([...subscriptions.keys(), ...ids]).size > mostSubscriptions) {
      return complain('invalid-message', `At most ${mostSubscriptions} subscriptions on a connection`)
    }
    // In case that none of them can be had.
    const again = watchAll()
    tellOfAllNoMore()
    for (const id of ids) {
      // The state first, also of one that is subscribed to again.
      unsubscribe(id)
      told.delete(id)
      subscriptions.set(
        id,
        follow((onChange) => service.watcher.watchJob(id, onChange)),
      )
    }
    const found = await findJobs(service.database.kysely, [...ids], principal).catch(() => undefined)
    for (const id of ids) {
      const one = found?.get(id)
      if (typeof one === 'object') {
        subscriptions.get(id)?.begin(tell, [one.job])
      } else {
        unsubscribe(id)
        const code = !one ? 'database-unavailable' : one === 'expired' ? 'job-expired' : 'not-found'
        complain(code, problems[code].title, id)
      }
    }
    if (subscriptions.size > 0 || socket.readyState !== socket.OPEN) return again.following.stop()
    void tellOfAll(again, false)
  }

  const pings = setInterval(() => {
    // Its answer may have come, and not been read.
    if (socket.isPaused) return
    if (!isAlive) return socket.terminate()
    isAlive = false
    socket.ping()
  }, pingEvery)
  const leave = () => {
    socket.close(goingAway, 'Connect again')
    setTimeout(() => socket.terminate(), leavesWithin)
  }

  socket.on('pong', () => {
    isAlive = true
  })
  const heed = async (text: string) => {
    if (socket.readyState !== socket.OPEN) return
    const message = parseMessage(text)
    if (!message) return complain('invalid-message', problems['invalid-message'].remedy)
    for (const id of message.unsubscribe) unsubscribe(id)
    await subscribe(new Set(message.subscribe))
    if (!all && subscriptions.size === 0 && socket.readyState === socket.OPEN) void tellOfAll(watchAll(), false)
  }
  // One after another, and no more is read meanwhile: whoever sends fast waits, and not the others for the database.
  let heeded = Promise.resolve()
  let unheeded = 0
  socket.on('message', (data, isBinary) => {
    if (isBinary) return socket.close(unsupportedData, 'Text frames only')
    socket.pause()
    unheeded += 1
    heeded = heeded
      .then(() => heed(data.toString()))
      .catch(fail)
      .finally(() => {
        unheeded -= 1
        if (unheeded === 0) socket.resume()
      })
  })
  socket.on('error', () => {})
  socket.once('close', () => {
    tellOfAllNoMore()
    for (const id of [...subscriptions.keys()]) unsubscribe(id)
    pending.clear()
    clearInterval(pings)
    service.draining.removeEventListener('abort', leave)
  })
  service.draining.addEventListener('abort', leave)
}

interface Message {
  subscribe: string[]
  unsubscribe: string[]
}

function parseMessage(text: string): Message | undefined {
  let value: unknown
  try {
    value = JSON.parse(text)
  } catch {
    return undefined
  }
  if (typeof value !== 'object' || value === null) return undefined
  const { subscribe, unsubscribe } = value as Partial<Message>
  const isList = (list: unknown) =>
    Array.isArray(list) && list.every((id) => typeof id === 'string' && id.length <= longestId)
  if (subscribe === undefined && unsubscribe === undefined) return undefined
  if (![subscribe, unsubscribe].every((list) => list === undefined || isList(list))) return undefined
  const lowerCase = (ids: string[] = []) => ids.map((id) => id.toLowerCase())
  return { subscribe: lowerCase(subscribe), unsubscribe: lowerCase(unsubscribe) }
}
