import { join } from 'node:path'

/** Why there is no embedded Postgres; the message is a sentence that says what to do. */
export class EmbeddedPostgresError extends Error {
  override name = 'EmbeddedPostgresError'
  readonly code: string

  constructor(code: string, message: string) {
    super(message)
    this.code = code
  }
}

/** Somebody else holds the data. */
export function locked(cluster: string, holder: string, command: string): EmbeddedPostgresError {
  return new EmbeddedPostgresError(
    'data-dir-locked',
    `${cluster} is in use by ${holder}: stop what started it, or stop it with ${command}, or set DATA_DIR to another directory.`,
  )
}

/** The sentence for what initdb or Postgres printed. */
export function explain(error: unknown, dataDir: string, port?: number): EmbeddedPostgresError {
  if (error instanceof EmbeddedPostgresError) return error
  const text = error instanceof Error ? error.message : String(error)
  const cannotRun = text.match(/error while loading shared libraries: .*|^spawn .*/)?.[0]
  if (cannotRun) {
    return new EmbeddedPostgresError(
      'unsupported-platform',
      `The Postgres in node_modules cannot run here (${cannotRun}): set DATABASE_URL to another one.`,
    )
  }
  if (/No space left on device|ENOSPC/.test(text)) {
    return new EmbeddedPostgresError(
      'disk-full',
      `The disk of ${dataDir} is full: make room, or set DATA_DIR elsewhere.`,
    )
  }
  const holder = text.match(/Is another postmaster \(PID (\d+)\)/)?.[1]
  if (holder) return locked(join(dataDir, 'postgres'), `the Postgres with pid ${holder}`, `\`kill -INT ${holder}\``)
  if (/pre-existing shared memory block/.test(text)) {
    return new EmbeddedPostgresError(
      'data-dir-locked',
      `${dataDir}/postgres is in use by what is left of a Postgres that died: start again when it has ended, or set DATA_DIR to another directory.`,
    )
  }
  if (/Address already in use|could not bind/.test(text)) {
    return new EmbeddedPostgresError('port-taken', `Port ${port} is taken, so Postgres cannot listen on it.`)
  }
  if (/Permission denied|not permitted|EACCES|EPERM|EROFS|Read-only/.test(text)) {
    return new EmbeddedPostgresError(
      'no-permission',
      `${dataDir} cannot be written: change its owner, or set DATA_DIR elsewhere.`,
    )
  }
  const reason = text.match(/(?:FATAL|PANIC|error): *(.*)/)?.[1] ?? text.trim().split('\n').at(-1)
  return new EmbeddedPostgresError('start-failed', `Postgres did not start in ${dataDir}: ${reason}`)
}
