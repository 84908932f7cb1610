import { randomBytes } from 'node:crypto'
import type { Test } from 'tap'
import { createDatabase, queryOnce } from '../support/database.ts'

/** Where a setting comes from. */
export const origins = ['alter database', 'alter role', 'alter role in database', 'options in the URL'] as const
export type Origin = (typeof origins)[number]

/** An empty database of a role that is no superuser. */
export interface OddDatabase {
  /** The URL of the role, with the settings. */
  url: string
  role: string
  /** The URL of a superuser, to whom settings of the role do not apply. */
  adminUrl: string
  /** Makes a setting apply to every new connection with {@link url}. */
  set(origin: Origin, name: string, value: string): Promise<void>
}

/** Creates a role that may log in with the password `secret`. What it owns in the database becomes the superuser's. */
export async function createRole(t: Test, adminUrl: string): Promise<string> {
  const role = `role_${randomBytes(6).toString('hex')}`
  await queryOnce(adminUrl, `create role ${role} login password 'secret'`)
  t.teardown(async () => {
    await queryOnce(adminUrl, `reassign owned by ${role} to current_user`)
    await queryOnce(adminUrl, `drop owned by ${role}`)
    await queryOnce(adminUrl, `drop role ${role}`)
  })
  return role
}

const databaseName = (url: string) => new URL(url).pathname.slice(1)

function otherDatabase(url: string): string {
  const other = new URL(url)
  other.pathname = '/postgres'
  return other.href
}

/**
 * Creates an empty database for one test.
 *
 * @param clause the clauses of `create database`, for example `encoding 'LATIN1'`
 */
export async function recreateDatabase(t: Test, clause: string): Promise<string> {
  const url = await createDatabase(t, { empty: true })
  await queryOnce(otherDatabase(url), `drop database ${databaseName(url)}`)
  await queryOnce(otherDatabase(url), `create database ${databaseName(url)} template template0 ${clause}`)
  return url
}

/** Returns why this server cannot have such a database: it may lack a locale, or be too old for a provider. */
export async function findObstacle(t: Test, clause: string): Promise<string | undefined> {
  const url = await createDatabase(t, { empty: true })
  const name = `${databaseName(url)}_probe`
  try {
    await queryOnce(url, `create database ${name} template template0 ${clause}`)
    await queryOnce(url, `drop database ${name}`)
    return undefined
  } catch (error) {
    const { message } = error as Error
    // Any other error fails the test.
    return /invalid (?:LC_COLLATE )?locale name|option "builtin_locale"/.test(message) ? message : undefined
  }
}

/** @param clause the clauses of `create database`, for example `encoding 'LATIN1'` */
export async function createOddDatabase(t: Test, clause?: string): Promise<OddDatabase> {
  const adminUrl = await (clause ? recreateDatabase(t, clause) : createDatabase(t, { empty: true }))
  const database = databaseName(adminUrl)
  const role = await createRole(t, adminUrl)
  const asRole = new URL(adminUrl)
  asRole.username = role
  asRole.password = 'secret'
  await queryOnce(adminUrl, `alter database ${database} owner to ${role}`)
  const created: OddDatabase = {
    url: asRole.href,
    role,
    adminUrl,
    async set(origin, name, value) {
      const literal = `'${value.replaceAll("'", "''")}'`
      // A literal would be one name, with the commas in it.
      const setting = `set ${name} = ${name === 'search_path' && value ? value : literal}`
      if (origin === 'alter database') await queryOnce(adminUrl, `alter database ${database} ${setting}`)
      else if (origin === 'alter role') await queryOnce(adminUrl, `alter role ${role} ${setting}`)
      else if (origin === 'alter role in database') {
        await queryOnce(adminUrl, `alter role ${role} in database ${database} ${setting}`)
      } else {
        const options = `${asRole.searchParams.get('options') ?? ''} -c ${name}=${value.replaceAll(/[\\ ]/g, '\\$&')}`
        asRole.searchParams.set('options', options.trim())
        created.url = asRole.href
      }
    },
  }
  return created
}
