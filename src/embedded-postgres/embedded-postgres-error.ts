import { join } from 'node:path'

/**
 * Thrown when the embedded Postgres cannot start or stop. The message is one sentence that says what to do.
 */
export class EmbeddedPostgresError extends Error {
  override name = 'EmbeddedPostgresError'
  readonly code: string

  constructor(code: string, message: string) {
    super(message)
    this.code = code
  }
}

/**
 * @param holder a text that names the process that uses the cluster
 * @param stopCommand the shell command that stops this process
 */
export function clusterInUse(cluster: string, holder: string, stopCommand: string): EmbeddedPostgresError {
  return new EmbeddedPostgresError(
    'data-dir-locked',
    `${cluster} is in use by ${holder}: stop the program that started it, or run ${stopCommand}, ` +
      'or set DATA_DIR to another directory.',
  )
}

/** Converts an error that contains the output of initdb or Postgres into an error that says what to do. */
export function explain(error: unknown, dataDir: string, port?: number): EmbeddedPostgresError {
  if (error instanceof EmbeddedPostgresError) return error
  const text = error instanceof Error ? error.message : String(error)
  const cannotRun = text.match(/error while loading shared libraries: .*|^spawn .*/)?.[0]
  if (cannotRun) {
    return new EmbeddedPostgresError(
      'unsupported-platform',
      `The Postgres in node_modules cannot run here (${cannotRun}): set DATABASE_URL to another Postgres.`,
    )
  }
  if (/No space left on device|ENOSPC/.test(text)) {
    return new EmbeddedPostgresError(
      'disk-full',
      `The disk of ${dataDir} is full: free some space, or set DATA_DIR to a directory on another disk.`,
    )
  }
  const pid = text.match(/Is another postmaster \(PID (\d+)\)/)?.[1]
  if (pid) return clusterInUse(join(dataDir, 'postgres'), `the Postgres with pid ${pid}`, `\`kill -INT ${pid}\``)
  if (/pre-existing shared memory block/.test(text)) {
    return new EmbeddedPostgresError(
      'data-dir-locked',
      `${dataDir}/postgres is in use by processes of a Postgres that crashed: ` +
        'start again when they have ended, or set DATA_DIR to another directory.',
    )
  }
  if (/Address already in use|could not bind/.test(text)) {
    return new EmbeddedPostgresError('port-taken', `Postgres cannot listen on port ${port}: the port is in use.`)
  }
  if (/Permission denied|not permitted|EACCES|EPERM|EROFS|Read-only/.test(text)) {
    return new EmbeddedPostgresError(
      'no-permission',
      `${dataDir} cannot be written: change its owner, or set DATA_DIR to another directory.`,
    )
  }
  const reason = text.match(/(?:FATAL|PANIC|error): *(.*)/)?.[1] ?? text.trim().split('\n').at(-1)
  return new EmbeddedPostgresError('start-failed', `Postgres did not start in ${dataDir}: ${reason}`)
}
