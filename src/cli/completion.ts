import type { Argument, Command, Option } from 'commander'
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
  // Bash makes three words of --status=failed.
  const [current = '', ...before] = words.filter((word) => word !== '=').reverse()
  const { command, argumentCount, option } = parse(program, before.reverse())
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
  if (['--operation', '--operations'].includes(name)) return readNames('operation')
  if (name !== 'name') return []
  const group = command.parent?.name()
  return group === 'operations' ? readNames('operation') : group === 'schedules' ? readNames('schedule') : []
}

const isShown = (name: string) => !name.startsWith('_')

/** Reads names from the database. Returns none if there is no database. */
async function readNames(table: 'operation' | 'schedule'): Promise<string[]> {
  const timeout = new Promise<string[]>((resolve) => setTimeout(resolve, databaseTimeoutMs, []).unref())
  const names = withDatabase(async (db) => {
    const rows = await db.selectFrom(`accepted.${table}`).select('name').orderBy('name').execute()
    return rows.map(({ name }) => name)
  })
  return Promise.race([names, timeout]).catch(() => [])
}
