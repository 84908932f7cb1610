import { lstat, mkdir, readdir, readFile, writeFile } from 'node:fs/promises'
import { basename, dirname, join, resolve } from 'node:path'
import { fileURLToPath } from 'node:url'
import { ConfigError } from '../config.ts'
import { packageManager } from './command-line.ts'
import type { OutputOptions } from './output-options.ts'

const packageUrl = import.meta.resolve('accepted/package.json')
const templates = fileURLToPath(new URL('assets/init/', packageUrl))

/** Maximum number of files that an error names. */
const maxNamed = 3

/** Runs `accepted init`: writes the files of a minimal app to a directory, unless one of them is there. */
export async function initCommand(
  path: string | undefined,
  { json }: OutputOptions,
  workingDir: string,
): Promise<void> {
  const directory = resolve(workingDir, path ?? '.')
  const values = await readValues(directory)
  const manager = packageManager()
  const files = (await readdir(templates, { recursive: true, withFileTypes: true }))
    .filter((entry) => entry.isFile())
    .map((entry) => join(entry.parentPath, entry.name).slice(templates.length))
    .filter((file) => file !== '_pnpm-workspace.yaml' || manager === 'pnpm')
  await assertFree(directory, files.map(targetOf).sort())
  for (const file of files.sort()) {
    const target = join(directory, targetOf(file))
    const text = fill(await readFile(join(templates, file), 'utf8'), values)
    await mkdir(dirname(target), { recursive: true })
    if (file === '_package.json') await writeFile(target, await mergeManifest(text, target))
    else await writeFile(target, text, { flag: 'wx' })
  }
  const created = files.map(targetOf).sort()
  if (json) return console.log(JSON.stringify({ files: created }))
  const steps = [...(path ? [`cd ${path}`] : []), `${manager} install`, `${manager} run dev`]
  console.log(`Created ${created.join(', ')}.\n\nNext:\n${steps.map((step) => `  ${step}`).join('\n')}`)
}

/** @throws ConfigError that names the files which would be overwritten */
async function assertFree(directory: string, files: readonly string[]): Promise<void> {
  const present: string[] = []
  for (const file of files) {
    // What the app needs is added to a package.json.
    if (file !== 'package.json' && (await exists(directory, file))) present.push(file)
  }
  if (present.length === 0) return
  const named = present.slice(0, maxNamed).join(', ') + (present.length > maxNamed ? ', …' : '')
  throw new ConfigError(
    `\`accepted init\` would overwrite ${named} in ${directory}. Move what is there, or name a new directory: ` +
      '`accepted init <directory>`.',
  )
}

async function exists(directory: string, file: string): Promise<boolean> {
  try {
    await lstat(join(directory, file))
    return true
  } catch (error) {
    const { code } = error as NodeJS.ErrnoException
    if (code === 'ENOENT') return false
    throw new ConfigError(`${join(directory, file)} cannot be written (${code}). Choose another directory.`)
  }
}

/** Adds what the app needs to the package.json that `npm install accepted` or `npm init` has written before. */
async function mergeManifest(text: string, file: string): Promise<string> {
  const present = await readFile(file, 'utf8').catch(() => undefined)
  if (present === undefined) return text
  const [own, other] = [JSON.parse(text), JSON.parse(present)]
  const dependencies = { ...own.dependencies, ...other.dependencies }
  const devDependencies = Object.entries({ ...own.devDependencies, ...other.devDependencies })
  const merged = {
    ...own,
    ...other,
    // `npm init` makes it `commonjs`, and adds a test that fails.
    type: own.type,
    scripts: { ...other.scripts, ...own.scripts },
    dependencies,
    devDependencies: Object.fromEntries(devDependencies.filter(([name]) => !(name in dependencies))),
  }
  return `${JSON.stringify(merged, null, 2)}\n`
}

/** npm leaves a .gitignore out of packages, and would take a package.json for that of a package. */
const targetOf = (file: string) => file.replace(/^_gitignore$/, '.gitignore').replace(/^_/, '')

/** Returns what replaces the placeholders in the templates: the name of the app, and the versions that this one uses. */
async function readValues(directory: string): Promise<Readonly<Record<string, string>>> {
  const { version, dependencies, devDependencies } = JSON.parse(await readFile(fileURLToPath(packageUrl), 'utf8'))
  const words =
    basename(directory)
      .toLowerCase()
      .match(/[a-z0-9]+/g) ?? []
  return { ...devDependencies, ...dependencies, name: words.join('-') || 'app', accepted: version }
}

const fill = (template: string, values: Readonly<Record<string, string>>) =>
  template.replaceAll(/\{\{([\w@/-]+)\}\}/g, (_, name: string) => values[name] as string)
