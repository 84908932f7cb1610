import { spawnSync } from 'node:child_process'
import { createHash, randomBytes } from 'node:crypto'
import { chmod, cp, mkdir, readFile, rename, rm, stat } from 'node:fs/promises'
import { basename, dirname, join, resolve } from 'node:path'
import { EmbeddedPostgresError } from './embedded-postgres-error.ts'
import type { Account } from './process.ts'
import { findPrograms, type Programs } from './programs.ts'

/** The data directory and the programs of a server, and the user that runs the server. */
export interface InstallLocation {
  dataDir: string
  programs: Programs
  /** Undefined means the current user. */
  account: Account | undefined
}

/**
 * The directory for data and programs if the server's user cannot enter the usual directories. It is used only if this
 * process runs as root.
 */
const sharedDirectory = '/var/lib/accepted'

/** pg_ctl starts Postgres through a shell, and puts the path between double quotes. */
const unusableInPath = process.platform === 'win32' ? /["%]/ : /["$`\\\p{Cc}]/u

const reasons: Readonly<Record<string, string>> = {
  ENOSPC: 'the disk is full',
  EEXIST: 'it is a file',
  ENOTDIR: 'a directory above it is a file',
  ENAMETOOLONG: 'the name is too long',
}

/**
 * Finds a data directory and programs that the server's user can reach. Creates the data directory if it is missing.
 *
 * @throws EmbeddedPostgresError
 */
export async function findInstallLocation(wantedDataDir: string): Promise<InstallLocation> {
  const programs = await findPrograms()
  const wanted = resolve(wantedDataDir)
  if (unusableInPath.test(wanted)) {
    throw new EmbeddedPostgresError(
      'no-permission',
      `The data directory ${JSON.stringify(wanted)} has a character that Postgres cannot start with ` +
        '(a double quote, dollar sign, backtick, backslash or control character): set DATA_DIR to another directory.',
    )
  }
  try {
    await makeDirectory(wanted)
  } catch (error) {
    const { code = '' } = error as NodeJS.ErrnoException
    const reason = reasons[code] ?? code
    throw new EmbeddedPostgresError(
      'no-permission',
      `The data directory ${wanted} cannot be created (${reason}): set DATA_DIR to another directory.`,
    )
  }
  if (process.getuid?.() !== 0) return { dataDir: wanted, programs, account: undefined }
  const account = findServerAccount()
  const dataDir = canEnter(account, wanted) ? wanted : await createSharedDataDir(account, wanted)
  return { dataDir, programs: await makeReachable(account, programs), account }
}

/**
 * Creates a directory and its missing parents. The option `recursive` of Node.js never ends where the kernel answers
 * ENOENT although the parent exists, for example below /proc.
 */
async function makeDirectory(directory: string): Promise<void> {
  try {
    await mkdir(directory)
  } catch (error) {
    const { code } = error as NodeJS.ErrnoException
    const found = await stat(directory).catch(() => undefined)
    // Another process may have created the directory in the meantime.
    if (found?.isDirectory()) return
    const parent = dirname(directory)
    const hasParent = await stat(parent).then(
      () => true,
      () => false,
    )
    if (code !== 'ENOENT' || hasParent) throw error
    await makeDirectory(parent)
    await makeDirectory(directory)
  }
}

/** Finds the user `postgres`, or creates it, because Postgres refuses to run as root. */
function findServerAccount(): Account {
  const find = () => {
    const id = (flag: string) => spawnSync('id', [flag, 'postgres'], { encoding: 'utf8' })
    const [uid, gid] = [id('-u'), id('-g')]
    return uid.status === 0 && gid.status === 0 ? { uid: Number(uid.stdout), gid: Number(gid.stdout) } : undefined
  }
  const create = () =>
    spawnSync('useradd', ['--system', '--user-group', '--no-create-home', 'postgres']).status === 0 ||
    // Busybox has no useradd.
    spawnSync('adduser', ['-S', '-D', '-H', 'postgres']).status === 0
  const account = find() ?? (create() ? find() : undefined)
  if (account) return account
  throw new EmbeddedPostgresError(
    'no-account',
    'Postgres does not run as root, and the user postgres could not be created: ' +
      'run as another user, or set DATABASE_URL.',
  )
}

/**
 * Returns whether the user can enter the directory. Tries to enter it, because only the kernel can check every kind of
 * permission.
 */
function canEnter(account: Account, directory: string): boolean {
  return spawnSync('/bin/sh', ['-c', 'cd "$0"', directory], { ...account, cwd: '/' }).status === 0
}

/** Creates a data directory in the shared directory. The same wanted directory always gives the same data directory. */
async function createSharedDataDir(account: Account, wanted: string): Promise<string> {
  const hash = createHash('sha256').update(wanted).digest('hex').slice(0, 8)
  const dataDir = join(sharedDirectory, `${basename(dirname(wanted))}-${hash}`)
  await makeShared(dataDir).catch(() => {})
  if (canEnter(account, dataDir)) return dataDir
  throw new EmbeddedPostgresError(
    'data-dir-unreachable',
    `Postgres does not run as root, and the user postgres cannot enter ${wanted}: ` +
      'set DATA_DIR to a directory that this user can enter, or run as another user.',
  )
}

/**
 * Creates a directory in the shared directory. Every user can enter it, because its mode does not depend on the umask.
 */
async function makeShared(directory: string): Promise<void> {
  await makeDirectory(directory)
  for (const each of [sharedDirectory, directory]) await chmod(each, 0o755)
}

/** Returns the programs if the server's user can reach them. Otherwise returns a copy that only root can change. */
async function makeReachable(account: Account, programs: Programs): Promise<Programs> {
  const native = dirname(dirname(programs.pg_ctl))
  if (canEnter(account, dirname(programs.pg_ctl))) return programs
  const { version } = JSON.parse(await readFile(join(dirname(native), 'package.json'), 'utf8'))
  const hash = createHash('sha256').update(`${native} ${version}`).digest('hex')
  const copy = join(sharedDirectory, `programs-${hash.slice(0, 12)}`)
  if (!(await isTrusted(copy))) {
    const unfinished = `${copy}.${randomBytes(4).toString('hex')}`
    await makeShared(unfinished)
    await cp(native, unfinished, { recursive: true, verbatimSymlinks: true })
    // With a strict umask, only the owner can read node_modules and the copy.
    spawnSync('chmod', ['-R', 'u=rwX,go=rX', unfinished])
    // Fails if another process has created the copy in the meantime. Then that copy is used.
    await rename(unfinished, copy).catch(() => rm(unfinished, { recursive: true }))
  }
  return { initdb: join(copy, 'bin/initdb'), pg_ctl: join(copy, 'bin/pg_ctl') }
}

/**
 * Returns whether the copy exists. The server runs programs from it, so users other than root must not be able to
 * change the copy.
 *
 * @throws EmbeddedPostgresError when users other than root can change the copy
 */
async function isTrusted(directory: string): Promise<boolean> {
  const found = await stat(directory).catch(() => undefined)
  if (!found) return false
  if (found.uid === 0 && (found.mode & 0o022) === 0) return true
  throw new EmbeddedPostgresError('untrusted-programs', `Users other than root can change ${directory}: remove it.`)
}
