// This file has no imports, so that it runs in old versions of Node.js too.

const minNodeVersion = 24

/** Returns a sentence that says what to do if this version of Node.js is too old; otherwise undefined. */
export function nodeVersionProblem(): string | undefined {
  const version = process.versions.node
  if (Number.parseInt(version, 10) >= minNodeVersion) return undefined
  return (
    `accepted needs Node.js ${minNodeVersion}; this is ${version}. Install Node.js ${minNodeVersion} or later from ` +
    `https://nodejs.org, or only for this project with \`npm install --save-dev node@${minNodeVersion}\`.`
  )
}
