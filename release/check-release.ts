/** Checks before `npm publish` that the release is complete. npm runs this script, and stops if it fails. */
import { execFileSync } from 'node:child_process'
import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { root } from './production-packages.ts'

export interface Release {
  manifest: { version: string; repository?: unknown }
  /** The package.json of create-accepted. */
  starter: { version: string; dependencies: Readonly<Record<string, string>> }
  changelog: string
  /** What `git status --porcelain` prints. */
  changes: string
}

/** Returns a line for everything that is missing. */
export function findReleaseProblems({ manifest, starter, changelog, changes }: Release): string[] {
  const { version, repository } = manifest
  const hasHeading = changelog.split('\n').some((line) => line.startsWith(`## [${version}] - `))
  return [
    ...(repository
      ? []
      : ['package.json has no "repository": npm needs it for the provenance. Set it to the public URL']),
    ...(hasHeading ? [] : [`CHANGELOG.md has no heading "## [${version}] - <date>"`]),
    ...(starter.version === version && starter.dependencies.accepted === version
      ? []
      : [`release/create-accepted/package.json must have the version ${version}, and depend on it`]),
    ...(changes === '' ? [] : [`These files are not committed:\n${changes}`]),
  ]
}

if (import.meta.main) {
  const read = (file: string) => readFileSync(join(root, file), 'utf8')
  const problems = findReleaseProblems({
    manifest: JSON.parse(read('package.json')),
    starter: JSON.parse(read('release/create-accepted/package.json')),
    changelog: read('CHANGELOG.md'),
    changes: execFileSync('git', ['status', '--porcelain'], { cwd: root, encoding: 'utf8' }).trimEnd(),
  })
  for (const problem of problems) console.error(`Release: ${problem}`)
  process.exitCode = problems.length === 0 ? 0 : 1
}
