import { setMaxListeners } from 'node:events'
import type { FastifyInstance, FastifyRequest } from 'fastify'
import { type BatchCommitter, createBatchCommitter } from '../accept/accept-batch.ts'
import { type Committer, createCommitter } from '../accept/committer.ts'
import { type Accepted, createAccepted } from '../connect/accepted.ts'
import { type Core, type Log, openCore } from '../connect/core.ts'
import type { Monitor } from '../jobs/monitor-schema.ts'
import { siteAt } from '../jobs/site.ts'
import { clearSecretsWarning, hasEndpoints } from '../jobs/webhook-secret.ts'
import type { Operation } from '../operation.ts'
import { Watcher } from '../watch/watcher.ts'
import { authenticateByApiKey } from './api-key.ts'
import { createAuthenticationHook } from './authenticate.ts'
import { CredentialWatch } from './credential-watch.ts'
import { LargeAnswers } from './large-answers.ts'
import type { AcceptedOptions } from './options.ts'
import { type Cors, createCors } from './protocol/cors.ts'
import { limitFailures } from './protocol/failed-authentication.ts'
import { OpenRequests } from './protocol/open-requests.ts'
import { defaultRateLimit, suspiciousLimit } from './protocol/rate-limit.ts'
import { type Mount, mountOf } from './route-paths.ts'
import { createEventEncoder, type EventEncoder } from './streams/encoder.ts'
import { EventStreams } from './streams/event-streams.ts'
import { createSnapshotReader, type Snapshot } from './streams/snapshot.ts'

/** The object that the plugin adds to the Fastify instance as `app.accepted`. */
export interface FastifyAccepted extends Accepted {
  /** An `onRequest` hook for the app's own routes. It sets `request.principal` and `request.scopes`, or answers 401. */
  authenticate(request: FastifyRequest): Promise<void>
}

declare module 'fastify' {
  interface FastifyInstance {
    /** Whether the commit of a job that the app enqueues notifies the workers, because no `reply.accepted` follows. */
    commitNotifies?: boolean
    accepted: FastifyAccepted
  }
  // What the hook `authenticate` sets. Declared here, so that it reaches the users of the package.
  interface FastifyRequest {
    /** The principal that `authenticate` returned for the caller. */
    principal: string
    /** The caller's scopes. */
    scopes: readonly string[]
    /** The operations that the caller may use; undefined: all. */
    operations: readonly string[] | undefined
    /** The id of the API key, if the caller has sent one. */
    keyId: string | undefined
    /** When the credential expires; undefined: never, or when the API key does. */
    credentialExpiresAt: Date | undefined
    /** The only job that the caller may see, if the request has the token of a link. */
    linkedJobId: string | undefined
  }
  interface FastifyContextConfig {
    /** With true, `accepted api` serves this route of the app's own to callers without a credential. Default: false. */
    public?: boolean
  }
  interface FastifyReply {
    /**
     * Answers 202 with links to a job that `app.accepted` has returned, and with its monitor document. Call it after
     * the commit.
     */
    accepted(job: Monitor): FastifyReply
  }
}

/** Objects that all routes share. */
export interface Service extends Core, Mount {
  committer: Committer
  batches: BatchCommitter
  watcher: Watcher
  /** Ends streams whose credential is no longer valid. */
  credentials: CredentialWatch
  /** Whether requests are authenticated by API keys. */
  usesKeys: boolean
  encoder: EventEncoder
  /** Reads the newest jobs of a principal. The snapshot contains all changes that were committed before the call. */
  readSnapshot(principal: string): Promise<Snapshot>
  streams: EventStreams
  largeAnswers: LargeAnswers
  cors: Cors
  /** Limits the streams, WebSockets and waits of each principal. */
  openRequests: OpenRequests
  /** Aborts when the server starts to close. Long polls are then answered, and streams end. */
  draining: AbortSignal
}

/** Creates the objects that all routes share. When the app closes, they are closed in reverse order. */
export async function openService(
  app: FastifyInstance,
  operations: ReadonlyMap<string, Operation>,
  options: AcceptedOptions,
): Promise<Service> {
  const mount = mountOf(app.prefix, options)
  const draining = createDrainingSignal(app)
  const { encryptionKeys, database: source } = options
  const core = await openCore({ operations, database: source, encryptionKeys, log: app.log as Log })
  app.addHook('onClose', () => core.close())
  const { database, boss, seals, results, estimates, mutex, tracing, report } = core
  if (!seals.keyRing && mount.paths.webhooks && (await hasEndpoints(database.kysely))) app.log.warn(clearSecretsWarning)
  const watcher = new Watcher(database, {
    onError: (error) => report(error, 'Watching for job changes failed; continuing with the next poll'),
  })
  app.addHook('onClose', () => watcher.close())
  const usesKeys = options.authenticate === undefined
  const credentials = new CredentialWatch(database, {
    usesKeys,
    onError: (error) => report(error, 'Checking the credentials of streams failed; checking again in a second'),
  })
  return {
    ...core,
    committer: createCommitter({ database, boss, seals, mutex, tracing }),
    batches: createBatchCommitter({ database, seals, mutex, tracing }),
    watcher,
    credentials,
    usesKeys,
    encoder: createEventEncoder(estimates, results),
    readSnapshot: createSnapshotReader(database),
    streams: new EventStreams(draining, credentials),
    largeAnswers: new LargeAnswers(),
    cors: createCors(options.corsOrigins ?? []),
    openRequests: new OpenRequests(options.openLimit),
    draining,
    ...mount,
  }
}

/** Creates `app.accepted`. */
export function createFastifyAccepted(
  { commitNotifies = false }: FastifyInstance,
  service: Service,
  { authenticate, allowAnonymous = false, publicUrl, rateLimit = defaultRateLimit }: AcceptedOptions,
): FastifyAccepted {
  const { database, paths, prefix } = service
  const identify = authenticate ?? authenticateByApiKey(database, { allowAnonymous })
  const hook = createAuthenticationHook(database, identify, service)
  const site = siteAt((publicUrl === undefined ? '' : siteAt(publicUrl).url) + prefix, paths.jobs)
  return {
    ...createAccepted(service, { site, jobsPath: prefix + paths.jobs, notifies: commitNotifies }),
    authenticate: rateLimit ? limitFailures(hook, suspiciousLimit(rateLimit)) : hook,
  }
}

function createDrainingSignal(app: FastifyInstance): AbortSignal {
  const draining = new AbortController()
  // Disables the warning about many listeners. Every long poll and every WebSocket adds a listener.
  setMaxListeners(0, draining.signal)
  app.addHook('preClose', async () => draining.abort())
  return draining.signal
}
