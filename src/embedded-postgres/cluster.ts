import { randomBytes } from 'node:crypto'
import { chown, mkdir, readdir, readFile, rename, rm, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { EmbeddedPostgresError } from './embedded-postgres-error.ts'
import type { InstallLocation } from './install-location.ts'
import { runProgram } from './process.ts'

/** The major version of the bundled PostgreSQL. */
const majorVersion = '18'

/** The password is stored in the cluster directory, so that both are moved and deleted together. */
const passwordFile = (cluster: string) => join(cluster, 'password')

/** Returns a file's content, or undefined when there is no file. Other errors reject. */
export const readIfPresent = (file: string): Promise<string | undefined> =>
  readFile(file, 'utf8').catch((error: NodeJS.ErrnoException) => {
    if (error.code !== 'ENOENT') throw error
    return undefined
  })

/** Returns the password of the user `postgres`. */
export async function readPassword(cluster: string): Promise<string> {
  const password = await readIfPresent(passwordFile(cluster))
  if (password !== undefined) return password.trim()
  throw new EmbeddedPostgresError(
    'no-password',
    `The password file ${passwordFile(cluster)} is missing: restore it, or set DATA_DIR to another directory.`,
  )
}

/**
 * Creates the cluster unless it exists. The directory gets its final name only when initdb is done, so an interrupted
 * initdb does no harm.
 */
export async function ensureCluster({ dataDir, programs, account }: InstallLocation, cluster: string): Promise<void> {
  const version = await readIfPresent(join(cluster, 'PG_VERSION'))
  if (version?.trim() === majorVersion) return
  if (version !== undefined) {
    throw new EmbeddedPostgresError(
      'other-version',
      `${cluster} was created by PostgreSQL ${version.trim()} and this is PostgreSQL ${majorVersion}: ` +
        'dump the data with the old version, or set DATA_DIR to another directory.',
    )
  }
  await removeUnfinished(dataDir)
  const unfinished = `${cluster}.new-${randomBytes(4).toString('hex')}`
  const password = `${unfinished}.password`
  try {
    await mkdir(unfinished, { mode: 0o700 })
    await writeFile(password, `${randomBytes(24).toString('base64url')}\n`, { mode: 0o600, flush: true })
    if (account) for (const path of [unfinished, password]) await chown(path, account.uid, account.gid)
    const flags = [
      ...['-D', unfinished, '-U', 'postgres', '--pwfile', password, '-A', 'scram-sha-256'],
      ...['-E', 'UTF8', '--locale=C', '--locale-provider=builtin', '--builtin-locale=C.UTF-8'],
    ]
    await runProgram(programs.initdb, flags, account)
    await rename(password, passwordFile(unfinished))
    await rename(unfinished, cluster).catch(({ code }: NodeJS.ErrnoException) => {
      // The existing directory may contain data of the user, so it is not removed.
      throw new EmbeddedPostgresError(
        'foreign-directory',
        `${cluster} exists but is not a Postgres cluster (${code}): move it, or set DATA_DIR to another directory.`,
      )
    })
  } catch (error) {
    await removeUnfinished(dataDir)
    throw error
  }
}

/** Removes the files that interrupted starts have left behind. An initdb that is still writing there then fails. */
async function removeUnfinished(dataDir: string): Promise<void> {
  for (const name of await readdir(dataDir)) {
    if (name.startsWith('postgres.new')) await rm(join(dataDir, name), { recursive: true, force: true }).catch(() => {})
  }
}
