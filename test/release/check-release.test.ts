import t from 'tap'
import { findReleaseProblems } from '../../release/check-release.ts'

const release = {
  manifest: { version: '1.2.0', repository: { type: 'git', url: 'git+https://example.com/accepted.git' } },
  starter: { version: '1.2.0', dependencies: { accepted: '1.2.0' } },
  changelog: '# Changelog\n\n## [Unreleased]\n\n## [1.2.0] - 2027-02-14\n',
  changes: '',
}

t.test(
  'a release needs a repository, a heading in the changelog, the starter of its version and a clean tree',
  async (t) => {
    t.same(findReleaseProblems(release), [])
    t.match(findReleaseProblems({ ...release, manifest: { version: '1.2.0' } }), [/no "repository"/])
    t.match(findReleaseProblems({ ...release, changelog: '## [Unreleased]\n\n## [1.2.01] - 2027-02-14\n' }), [
      /heading/,
    ])
    for (const starter of [
      { ...release.starter, version: '1.1.0' },
      { ...release.starter, dependencies: { accepted: '1.1.0' } },
    ]) {
      t.match(findReleaseProblems({ ...release, starter }), [
        /create-accepted\/package\.json must have the version 1\.2\.0/,
      ])
    }
    t.match(findReleaseProblems({ ...release, changes: ' M src/index.ts' }), [/not committed:\n M src\/index\.ts$/])
  },
)
