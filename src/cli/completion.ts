import type { Argument, Command, Option } from 'commander'
import { type RawBuilder, sql } from 'kysely'
import { transitions } from '../jobs/status.ts'
import { eventTypes } from '../jobs/webhook-schema.ts'
import { scopes } from '../scopes.ts'
import { withDatabase } from './with-database.ts'

/** A person waits for the candidates. */
const databaseTimeoutMs = 2_000

/**
 * Finds what can complete the last word of a command line.
 *
 * @param words the words after `accepted`; the last one may be empty
 */
export async function findCandidates(program: Command, words: readonly string[]): Promise<string[]> {
  const last = words.at(-1) ?? ''
  const [, name, value] = last.match(/^(--[^=]+)=(.*)$/) ?? []
  if (name !== undefined && value !== undefined) {
    const values = await findCandidates(program, [...words.slice(0, -1), name, value])
    return values.map((candidate) => `${name}=${candidate}`)
  }
  // Bash makes three words of --status=failed.
  const current = last === '=' ? '' : last
  const before = words.slice(0, -1).filter((word) => word !== '=')
  const { command, argumentCount, option } = parse(program, before)
  const isName = option === undefined && current.startsWith('-')
  const candidates = isName
    ? optionNames(command)
    : await valuesOf(option ?? argumentOf(command, argumentCount), command)
  // A list is completed at its end.
  const head = option && listOptions.has(`${option.long}`) ? current.slice(0, current.lastIndexOf(',') + 1) : ''
  return candidates.map((candidate) => head + candidate).filter((candidate) => candidate.startsWith(current))
}

interface ParsedWords {
  command: Command
  /** Number of arguments that have been given to the command. */
  argumentCount: number
  /** The option whose value comes next. */
  option: Option | undefined
}

function parse(program: Command, words: readonly string[]): ParsedWords {
  const parsed: ParsedWords = { command: program, argumentCount: 0, option: undefined }
  for (const word of words) {
    const option = parsed.command.options.find(({ long, short }) => word === long || word === short)
    const child = parsed.command.commands.find((command) => command.name() === word)
    if (parsed.option) parsed.option = undefined
    else if (option) parsed.option = option.required || option.optional ? option : undefined
    else if (child && parsed.argumentCount === 0) parsed.command = child as Command
    else if (!word.startsWith('-')) parsed.argumentCount += 1
  }
  return parsed
}

const optionNames = ({ options }: Command) => [...options.flatMap(({ long }) => long ?? []), '--help']

/** The argument that the next word is. If the command has other commands, it is their name. */
const argumentOf = (command: Command, index: number): Argument | undefined => {
  const { registeredArguments: given } = command
  return given[index] ?? (given.at(-1)?.variadic ? given.at(-1) : undefined)
}

/** The options whose value is a list of names, separated by commas. */
const listOptions = new Set(['--operations', '--scopes', '--events'])

const knownValues: Readonly<Record<string, readonly string[]>> = {
  '--status': Object.keys(transitions),
  '--scopes': scopes,
  '--events': eventTypes,
}

/** Returns the possible values of an option or an argument, or the names of the commands. */
async function valuesOf(given: Option | Argument | undefined, command: Command): Promise<readonly string[]> {
  if (given === undefined) return command.commands.map((child) => child.name()).filter(isShown)
  const name = 'long' in given ? `${given.long}` : given.name()
  if (given.argChoices) return given.argChoices
  if (knownValues[name]) return knownValues[name]
  const source = ['--operation', '--operations'].includes(name)
    ? sources['operations name']
    : (sources[`${command.name()} ${name}`] ?? sources[`${command.parent?.name()} ${name}`])
  return source ? readCandidates(source) : []
}

const newestJobs = (filter: object) => sql<{ candidate: string }>`
  select unnest(job_ids) as candidate
  from accepted.find_jobs(${JSON.stringify(filter)}::jsonb, max_jobs => 100, max_read => 10000)`

const operationNames = sql<{ candidate: string }>`select name as candidate from accepted.operation order by name`
const endpointIds = sql<{ candidate: string }>`select id as candidate from accepted.webhook_endpoint order by id`

/** What finds the values of an argument in the database, by the command or its group, and the name of the argument. */
const sources: Readonly<Record<string, RawBuilder<{ candidate: string }>>> = {
  'cancel ids': newestJobs({ can: 'cancel' }),
  'retry ids': newestJobs({ can: 'retry' }),
  'run ids': newestJobs({ status: 'queued' }),
  'jobs ids': newestJobs({}),
  'jobs id': newestJobs({}),
  'list --parent': newestJobs({}),
  'batches id': newestJobs({ operation: 'batch' }),
  'operations name': operationNames,
  'schedules name': sql`select name as candidate from accepted.schedule order by name`,
  'keys id': sql`select id as candidate from accepted.key_overview order by id`,
  'webhooks id': endpointIds,
  'webhooks endpoint': endpointIds,
  'webhooks delivery': sql`
    select distinct delivery_id as candidate from (
      select delivery_id from accepted.delivery_log order by at desc limit 100
    ) newest`,
}

const isShown = (name: string) => !name.startsWith('_')

/** Reads candidates from the database. Returns none if there is no database. */
async function readCandidates(source: RawBuilder<{ candidate: string }>): Promise<string[]> {
  const timeout = new Promise<string[]>((resolve) => setTimeout(resolve, databaseTimeoutMs, []).unref())
  const candidates = withDatabase(async (db) => (await source.execute(db)).rows.map(({ candidate }) => candidate))
  return Promise.race([candidates, timeout]).catch(() => [])
}
