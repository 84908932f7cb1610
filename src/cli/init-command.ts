import { mkdir, readdir, readFile, writeFile } from 'node:fs/promises'
import { basename, dirname, join, resolve } from 'node:path'
import { fileURLToPath } from 'node:url'
import { ConfigError } from '../config.ts'
import { packageManager } from './command-line.ts'
import type { OutputOptions } from './output-options.ts'

const packageUrl = import.meta.resolve('accepted/package.json')
const templates = fileURLToPath(new URL('assets/init/', packageUrl))

/** Maximum number of files that an error names. */
const maxNamed = 3

/** What may be there before the app: a repository, and what a package manager leaves. */
const allowedNames: readonly string[] = [
  ...['.git', '.npmrc', '.yarn', '.yarnrc.yml', 'node_modules', 'package.json', 'package-lock.json'],
  ...['pnpm-lock.yaml', 'pnpm-workspace.yaml', 'yarn.lock'],
]

/** Runs `accepted init`: writes the files of a minimal app to an empty or a new directory. */
export async function initCommand(
  path: string | undefined,
  { json }: OutputOptions,
  workingDir: string,
): Promise<void> {
  const directory = resolve(workingDir, path ?? '.')
  await assertUsable(directory)
  const values = await readValues(directory)
  const manager = packageManager()
  const files = (await readdir(templates, { recursive: true, withFileTypes: true }))
    .filter((entry) => entry.isFile())
    .map((entry) => join(entry.parentPath, entry.name).slice(templates.length))
    .filter((file) => file !== '_pnpm-workspace.yaml' || manager === 'pnpm')
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

async function assertUsable(directory: string): Promise<void> {
  const names = await readdir(directory).catch(({ code }: NodeJS.ErrnoException) => {
    if (code === 'ENOENT') return []
    throw new ConfigError(`The directory ${directory} cannot be read (${code}). Choose another directory.`)
  })
  const present = names.filter((name) => !allowedNames.includes(name))
  if (present.length === 0) return
  const named = present.slice(0, maxNamed).join(', ') + (present.length > maxNamed ? ', …' : '')
  throw new ConfigError(
    `The directory ${directory} is not empty: it contains ${named}. Run \`accepted init\` in an empty directory.`,
  )
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
